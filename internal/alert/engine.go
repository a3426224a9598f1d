package alert

import (
	"cmp"
	"context"
	"errors"
	"io/fs"
	"slices"
	"sync"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/durable"
)

const (
	// usualEvery is how often the conditions are looked at without being woken.
	usualEvery = 15 * time.Second
	// gather is how long after it was woken the engine looks: what happens together is told together.
	gather = 2 * time.Second
)

// Options are those of New. All functions may be called from several goroutines.
type Options struct {
	File  string        // where the book is kept
	Host  string        // name of this host, for messages
	Every time.Duration // how often it is looked at what is wrong, without being woken; 0 is 15 s
	// Look returns what is wrong, and whether the clock is suspect.
	Look func(now time.Time) (wrong []condition.Condition, suspect bool)
	// Unseen reports whether something that was wrong cannot be looked at now, so that it is
	// not known to be over because it was not found; nil for never. It may not call the engine.
	Unseen func(*condition.Condition) bool
	// Tell is told of what happens, for log and metrics.
	Tell Observer
}

// Observer is told of what the engine does. All functions are needed, and may not call the
// engine.
type Observer struct {
	Sent       func(sink, result string, n int) // result: sent, failed or dropped
	Failed     func(sink string, err error)     // once for each cause
	Works      func(sink string)                // again
	Unreadable func(error)                      // the book of the process before
	Unwritten  func(error)                      // the book; once, until it can be written again
}

// Sink is somewhere to tell, with one of Sender and Mirror.
type Sink struct {
	Name    string
	Type    string
	Min     condition.Severity
	Timeout time.Duration // of one message
	// Key tells whether the sink of a later configuration is the same one; "" is never the same.
	Key    string
	Each   bool // it is told each alert, and not in a digest
	Sender Sender
	Mirror Mirror
}

// Setting is what the configuration says.
type Setting struct {
	RepeatWarning, RepeatCritical time.Duration
	Sinks                         []Sink // with names of their own
}

// Engine tells the conditions of a daemon. Make it with New, give it a setting with
// Configure, and Run it; other methods may be called at any time.
type Engine struct {
	options Options
	wake    chan struct{} // full when there is something to look at
	replace func(path string, data []byte, mode fs.FileMode) error

	mu      sync.Mutex
	book    *Book
	loaded  bool
	open    bool // the file is this process's to write
	rules   Rules
	runners []*runner
	version uint64        // counts the changes of the book
	saved   uint64        // that the file has
	writing chan struct{} // closed when what is being written is; nil while nothing is
	unsaved error         // why the book could not be written
	running context.Context
	sending sync.WaitGroup
	first   map[string]time.Time // when a condition was seen first that has no time of its own
}

// New returns an engine that is told nothing and tells nobody yet.
func New(o Options) *Engine {
	e := &Engine{options: o, wake: make(chan struct{}, 1), replace: durable.Replace, first: map[string]time.Time{}}
	e.book = NewBook(time.Now(), func(sink string, n int) { o.Tell.Sent(sink, "dropped", n) })
	if o.Unseen != nil {
		e.book.unseen = o.Unseen
	}
	return e
}

// Configure puts a setting in force. What a sink is still to be told stays, if there is one
// of its name; what was being sent to one that is the same goes on.
func (e *Engine) Configure(s Setting) {
	e.mu.Lock()
	defer e.mu.Unlock()
	rules := Rules{RepeatWarning: s.RepeatWarning, RepeatCritical: s.RepeatCritical}
	turns := map[string]*turns{}
	for _, r := range e.runners {
		turns[r.sink.Name] = r.turns
	}
	var next []*runner
	for _, sink := range s.Sinks {
		rules.Sinks = append(rules.Sinks, Rule{Name: sink.Name, Min: sink.Min, Mirror: sink.Mirror != nil, Each: sink.Each})
		if i := slices.IndexFunc(e.runners, func(r *runner) bool { return r.sink.Name == sink.Name && r.sink.Key == sink.Key && sink.Key != "" }); i >= 0 {
			next = append(next, e.runners[i])
			e.runners = slices.Delete(e.runners, i, i+1)
			continue
		}
		next = append(next, newRunner(e, sink, turns[sink.Name]))
		e.book.health(sink.Name).next = time.Time{} // it may have been mended
		e.book.hasten(sink.Name)
	}
	for _, gone := range e.runners {
		gone.stop()
	}
	e.runners, e.rules = next, rules
	if e.running != nil {
		e.startRunners()
	}
	e.Wake()
}

// Wake has the engine look at the conditions soon.
func (e *Engine) Wake() {
	select {
	case e.wake <- struct{}{}:
	default:
	}
}

// Run looks at the conditions and sends until ctx ends. It may be run again afterwards. It
// ends within seconds, whatever sinks and disk do, and the file is not written any more then.
func (e *Engine) Run(ctx context.Context) error {
	if err := e.load(); err != nil {
		e.options.Tell.Unreadable(err)
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	e.mu.Lock()
	e.running, e.open = ctx, true
	e.startRunners()
	e.mu.Unlock()
	defer func() {
		stop()
		e.end()
	}()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-timer.C:
		case <-e.wake:
			if !sleep(ctx, gather) {
				return nil
			}
		}
		e.LookNow()
		timer.Reset(cmp.Or(e.options.Every, usualEvery))
	}
}

func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}

// end waits until nothing is sent any more, writes the book, and leaves the file alone.
func (e *Engine) end() {
	e.mu.Lock()
	e.running = nil
	runners := slices.Clone(e.runners)
	e.mu.Unlock()
	for _, r := range runners {
		r.stop()
	}
	e.sending.Wait()
	_ = e.Save() // it has told
	e.mu.Lock()
	e.open = false
	e.mu.Unlock()
}

// load reads the book of the process before, once.
func (e *Engine) load() error {
	e.mu.Lock()
	loaded := e.loaded
	e.loaded = true
	e.mu.Unlock()
	if loaded {
		return nil
	}
	read := NewBook(time.Now(), nil)
	err := read.Load(e.options.File) // from a disk that may not answer
	e.mu.Lock()
	defer e.mu.Unlock()
	e.book.adopt(read)
	return err
}

// LookNow takes in what is wrong now, writes it down, and has it told.
func (e *Engine) LookNow() {
	now := time.Now()
	wrong, suspect := e.options.Look(now)
	e.mu.Lock()
	changed := e.book.Update(now, e.rules, wrong, suspect)
	if changed {
		e.version++
	}
	e.forget(wrong)
	runners := slices.Clone(e.runners)
	e.mu.Unlock()
	_ = e.Save() // it has told
	if changed {
		for _, r := range runners {
			r.poke()
		}
	}
}

// forget forgets when things were seen that are not there any more.
func (e *Engine) forget(wrong []condition.Condition) {
	seen := make(map[string]bool, len(e.first))
	for i := range wrong {
		if _, ok := e.first[wrong[i].ID]; ok {
			seen[wrong[i].ID] = true
		}
	}
	for id := range e.first {
		if !seen[id] {
			delete(e.first, id)
		}
	}
}

// Unwritten says why the book is in memory only, nil if it is not.
func (e *Engine) Unwritten() error {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.unsaved
}

// Since returns since when something is wrong whose builder does not know it: since it was
// first asked for, over restarts.
func (e *Engine) Since(id string) time.Time {
	e.mu.Lock()
	defer e.mu.Unlock()
	if at := e.book.Since(id); !at.IsZero() {
		return at
	}
	at, ok := e.first[id]
	if !ok {
		at = time.Now()
		e.first[id] = at
	}
	return at
}

// What callers branch on.
var (
	ErrNoAlert = errors.New("there is no such alert")
	ErrNoSink  = errors.New("there is no such sink")
)
