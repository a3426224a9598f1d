package inbox

import (
	"context"
	"path/filepath"
	"sync"
	"time"
)

const (
	maxFile  = 1 << 20 // bytes
	maxFiles = 1000    // in one pass

	defaultPoll     = 30 * time.Second
	defaultSettle   = 500 * time.Millisecond
	defaultPatience = 10 * time.Minute
)

// Verdict is what became of a file.
type Verdict struct {
	Accepted bool   // it moves to done/, else to rejected/
	Reason   string // a sentence for the .reason file; nothing out of the file
	Hint     string // the next action, may be empty
	Later    bool   // it stays where it is, and is handed over again at the next look
}

// Config says what to read and whom to hand it to.
type Config struct {
	Directory string // absolute; need not exist yet

	// Take judges the content of one file. The name is for messages: everything
	// odd in it is escaped.
	Take func(ctx context.Context, name string, data []byte) Verdict

	Tell   func(Event)   // may be nil
	Poll   time.Duration // how often to look even if nothing was reported; 0 is 30 s
	Settle time.Duration // pause between the two reads of a file; 0 is 500 ms
}

// Inbox reads one directory.
type Inbox struct {
	config   Config
	patience time.Duration                   // how long a file may go on changing, or be unreadable
	most     int                             // files in one pass
	keep     int                             // files that stay in done/, and in rejected/
	fault    func(op, name string) error     // in tests: stands for the error of a system call
	between  func(point, name string)        // in tests: what others do meanwhile
	wake     chan struct{}                   // capacity 1
	watched  func(directory id, path string) // has Run watch what a pass has opened

	mu     sync.Mutex // held for a pass; guards what follows
	cursor string     // the last name of the last pass; "" begins anew
	round  int        // of the directory, from the first name to the last
	memory memory
	told   map[string]string // by topic, what is wrong now
}

// New returns an inbox. Nothing is opened before Run or Look.
func New(c Config) *Inbox {
	c.Directory = filepath.Clean(c.Directory)
	if c.Tell == nil {
		c.Tell = func(Event) {}
	}
	if c.Poll <= 0 {
		c.Poll = defaultPoll
	}
	if c.Settle <= 0 {
		c.Settle = defaultSettle
	}
	return &Inbox{
		config: c, patience: defaultPatience, most: maxFiles, keep: maxKept, wake: make(chan struct{}, 1),
		fault:   func(string, string) error { return nil },
		between: func(string, string) {},
		watched: func(id, string) {},
		memory:  memory{}, told: map[string]string{},
	}
}

// Look makes one pass over the directory and reports whether there are more files
// than one pass takes: the next goes on with those.
func (in *Inbox) Look(ctx context.Context) (more bool) {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.pass(ctx)
}

// Run looks whenever something was dropped, and every Poll, until ctx ends; then
// it returns nil. It is called once.
func (in *Inbox) Run(ctx context.Context) error {
	w, err := newWatcher(in.config.Directory, in.wake)
	if err != nil {
		in.mu.Lock()
		in.trouble("watch", Blind, err)
		in.mu.Unlock()
	}
	defer w.close()
	defer in.follow(func(id, string) {})
	in.follow(func(directory id, path string) { in.outcome("watch", Blind, w.follow(directory, path)) })
	poll := time.NewTicker(in.config.Poll)
	defer poll.Stop()
	for ctx.Err() == nil {
		for in.Look(ctx) && ctx.Err() == nil {
		}
		select { // somebody who writes all the time costs two passes a second, not all of them
		case <-ctx.Done():
		case <-time.After(in.config.Settle):
		}
		select {
		case <-ctx.Done():
		case <-poll.C:
		case <-in.wake:
		}
	}
	return nil
}

// follow sets what is told of the directory that a pass has opened.
func (in *Inbox) follow(watched func(directory id, path string)) {
	in.mu.Lock()
	defer in.mu.Unlock()
	in.watched = watched
}
