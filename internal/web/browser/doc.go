// Package browser drives a headless Chromium in tests: what a page looks like, says and does,
// with and without scripts, as a browser has it.
//
//	b := browser.Start(t)
//	page := b.Open(t, browser.Look{Width: 1400, Height: 900})
//	page.Go(server.URL)
//	page.Wait(`document.title.startsWith("Spinecert")`)
//
// It speaks the DevTools protocol over the pipe of --remote-debugging-pipe, so that nothing
// listens. Everything a page has to complain of is kept, see [Page.Complaints]. It is for one
// goroutine.
package browser
