// Package order sorts slices with little code.
//
//	order.Sort(alerts, func(a, b Alert) int { return strings.Compare(a.ID, b.ID) })
//
// slices.SortFunc is compiled anew for each kind of element, about 12 KB each time for a
// struct. With some 25 kinds that was 340 KB of a daemon that has at most 16 MB, for lists
// that are short, or sorted once. These functions take the same arguments, and are compiled
// once; they are slower by the cost of an indirect swap. In a hot path, and for slices of
// pointers, slices.SortFunc remains right.
package order

import "sort"

// Sort sorts s in ascending order as cmp says: negative when a comes before b, 0 where they
// are equal, positive when it comes after. Equal elements may change places.
func Sort[S ~[]E, E any](s S, cmp func(a, b E) int) {
	sort.Slice(s, func(i, j int) bool { return cmp(s[i], s[j]) < 0 })
}

// Stable is Sort, but that equal elements keep their places.
func Stable[S ~[]E, E any](s S, cmp func(a, b E) int) {
	sort.SliceStable(s, func(i, j int) bool { return cmp(s[i], s[j]) < 0 })
}
