package alert

import (
	"context"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
)

// far is a sink that does what a test says.
type far struct {
	mu    sync.Mutex
	times []time.Time
	got   []string // "event ID" of what it took
	ids   []string // of messages
	do    func(ctx context.Context, n int) error
	inUse int
	most  int
}

func (f *far) Send(ctx context.Context, m *Message) error {
	f.mu.Lock()
	f.times, f.ids = append(f.times, time.Now()), append(f.ids, m.ID)
	n, do := len(f.times), f.do
	f.inUse++
	f.most = max(f.most, f.inUse)
	f.mu.Unlock()
	var err error
	defer func() {
		f.mu.Lock()
		defer f.mu.Unlock()
		f.inUse--
	}()
	if do != nil {
		err = do(ctx, n)
	}
	if err == nil {
		f.mu.Lock()
		for _, n := range m.Notices {
			f.got = append(f.got, string(n.Event)+" "+n.Condition.ID)
		}
		f.mu.Unlock()
	}
	return err
}

func (f *far) set(do func(context.Context, int) error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.do = do
}

func (f *far) took() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	got := f.got
	f.got = nil
	return got
}

func (f *far) calls() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return len(f.times)
}

// scene is an engine in a bubble, and what it finds wrong.
type scene struct {
	*Engine
	t      *testing.T
	mu     sync.Mutex
	wrong  []condition.Condition
	events []string // of the observer
	cancel context.CancelFunc
	ended  chan struct{}
}

func newScene(t *testing.T, file string, sinks ...Sink) *scene {
	return startScene(t, file, Setting{Sinks: sinks})
}

func startScene(t *testing.T, file string, setting Setting, wrong ...condition.Condition) *scene {
	s := &scene{t: t, wrong: wrong}
	say := func(format string, args ...any) {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.events = append(s.events, fmt.Sprintf(format, args...))
	}
	s.Engine = New(Options{File: file, Host: "gateway1", Tell: Observer{
		Sent:   func(string, string, int) {},
		Failed: func(sink string, err error) { say("failed %s: %v", sink, err) }, Works: func(sink string) { say("works %s", sink) },
		Unreadable: func(error) { say("unreadable") }, Unwritten: func(error) { say("unwritten") },
	}, Look: func(time.Time) ([]condition.Condition, bool) {
		s.mu.Lock()
		defer s.mu.Unlock()
		return slices.Clone(s.wrong), false
	}})
	s.Configure(setting)
	s.run()
	return s
}

func (s *scene) run() {
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	s.cancel, s.ended = cancel, ended
	go func() { defer close(ended); _ = s.Run(ctx) }()
	synctest.Wait()
}

// end ends the engine, and returns how long that took.
func (s *scene) end() time.Duration {
	began := time.Now()
	s.cancel()
	<-s.ended
	return time.Since(began)
}

func (s *scene) set(wrong ...condition.Condition) {
	s.mu.Lock()
	s.wrong = wrong
	s.mu.Unlock()
	s.Wake()
	time.Sleep(gather + time.Second)
	synctest.Wait()
}

func (s *scene) said() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	events := s.events
	s.events = nil
	return events
}

func to(name string, f Sender) Sink {
	return Sink{Name: name, Type: "email", Min: condition.Warning, Timeout: 30 * time.Second, Key: "1", Sender: f}
}

func bubble(t *testing.T, test func(t *testing.T, file string)) {
	t.Helper()
	file := filepath.Join(t.TempDir(), FileName)
	synctest.Test(t, func(t *testing.T) { test(t, file) })
}
