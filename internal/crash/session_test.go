package crash

import (
	"context"
	"errors"
	"fmt"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/rotate"
)

// session is what a daemon has of the state directory.
type session struct {
	config  *config.Config
	store   *state.Directory
	keeper  *rotate.Keeper
	manager *manage.Manager
	stop    context.CancelFunc
	ended   chan error
}

// lock takes the lock of a state directory.
func (l life) lock(fault func(op, name string) error) (*session, error) {
	store, err := state.Lock(l.state(), state.Options{Disk: durable.Disk{Fault: fault}})
	return &session{config: l.config(), store: store}, err
}

// start has the slots serve. tell and told may be nil.
func (s *session) start(ctx context.Context, tell func(rotate.Event), told func(manage.Event)) error {
	s.keeper = rotate.New(rotate.Options{Store: s.store, Events: tell})
	run, stop := context.WithCancel(ctx)
	s.stop, s.ended = stop, make(chan error, 1)
	go func() { s.ended <- s.keeper.Run(run) }()
	s.manager = manage.New(manage.Config{Directory: s.store, Keeper: s.keeper, Configuration: func() *config.Config { return s.config }, Tell: told})
	if err := s.apply(ctx); err != nil {
		return errors.Join(fmt.Errorf("apply the plan: %w", err), s.close())
	}
	return nil
}

func (s *session) apply(ctx context.Context) error {
	return s.keeper.Apply(ctx, manage.Plan(s.config, s.store))
}

func (s *session) close() error {
	if s.stop != nil {
		s.stop()
		<-s.ended
	}
	return s.store.Close()
}

// serving returns what a slot serves, or nil.
func (s *session) serving(slot string) *rotate.Generation {
	if snap := s.keeper.Slot(slot).Snapshot(); snap != nil {
		return snap.Generation
	}
	return nil
}

// served returns what every slot serves.
func (s *session) served() map[string]*rotate.Generation {
	out := map[string]*rotate.Generation{}
	for _, slot := range s.keeper.Slots() {
		out[slot.Name()] = s.serving(slot.Name())
	}
	return out
}
