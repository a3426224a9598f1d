package web

import g "maragu.dev/gomponents"

// The three things that a page is made of. They are not inlined: with a copy of each at every
// place that uses it, the program would be half a megabyte larger.

// el is an element with its attributes and what is in it.
//
//go:noinline
func el(tag string, children ...g.Node) g.Node { return g.El(tag, children...) }

// attr is an attribute.
//
//go:noinline
func attr(key, value string) g.Node { return g.Attr(key, value) }

// lit is text of this program, as it is.
//
//go:noinline
func lit(s string) g.Node { return g.Text(s) }

func class(c string) g.Node { return attr("class", c) }
