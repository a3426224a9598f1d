package rotate

import (
	"container/heap"
	"time"
)

// agenda orders units by the time of their next look. A unit is in it at most
// once, however often it is looked at in between.
type agenda []*unit

func (a agenda) Len() int           { return len(a) }
func (a agenda) Less(i, j int) bool { return a[i].next.Before(a[j].next) }
func (a agenda) Swap(i, j int) {
	a[i], a[j] = a[j], a[i]
	a[i].pos, a[j].pos = i+1, j+1
}

// Push is for container/heap.
func (a *agenda) Push(x any) {
	u := x.(*unit)
	*a = append(*a, u)
	u.pos = len(*a)
}

// Pop is for container/heap.
func (a *agenda) Pop() any {
	last := len(*a) - 1
	u := (*a)[last]
	(*a)[last] = nil
	*a = (*a)[:last]
	u.pos = 0
	return u
}

// add puts u where its next look belongs.
func (a *agenda) add(u *unit) {
	if u.pos != 0 {
		heap.Fix(a, u.pos-1)
		return
	}
	heap.Push(a, u)
}

func (a *agenda) remove(u *unit) {
	if u.pos != 0 {
		heap.Remove(a, u.pos-1)
	}
}

// due removes and returns a unit whose time has come, or returns nil.
func (a *agenda) due(now time.Time) *unit {
	if len(*a) == 0 || (*a)[0].next.After(now) {
		return nil
	}
	return heap.Pop(a).(*unit)
}

// next returns the time of the next look; false if there is none.
func (a agenda) next() (time.Time, bool) {
	if len(a) == 0 {
		return time.Time{}, false
	}
	return a[0].next, true
}
