// Package anchor looks at the trust of an environment as people do: which CAs a
// bundle holds, what depends on each, what may be added, and what would no longer
// work with another bundle. It reads no disk and changes nothing.
//
//	v := anchor.View{Environment: "live", Bundle: bundle, Slots: slots, Seen: peers, Now: now}
//	diff, err := v.Diff(next)
//
// A View is a value; its methods may be called by several goroutines as long as
// nobody changes it. Errors of [View.Judge] are [*admin.Error] with the next action.
package anchor
