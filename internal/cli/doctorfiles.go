package cli

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/doctor"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// fromFiles examines what a daemon would find if it started now. Nothing is written.
func fromFiles(ctx context.Context, c *config.Config, now time.Time) []doctor.Line {
	in := doctor.Inside{Now: now, Config: c, UID: ownerOf(c.State.Directory), PID: state.Holder(c.State.Directory)}
	options := rotate.Options{Store: nothing{}}
	dir, err := state.Open(c.State.Directory)
	if err == nil {
		defer dir.Close()
		in.Directory, options.Store, options.CRLs = dir, reader{dir}, dir
	} else if !errors.Is(err, fs.ErrNotExist) {
		in.DirectoryErr = err
	}
	plan := manage.Plan(c, in.Directory)
	for i := range plan.Environments {
		plan.Environments[i].Fetch.Hosts = nil // doctor asks by itself, once
	}
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	keeper := rotate.New(options)
	ended := make(chan error, 1)
	go func() { ended <- keeper.Run(running) }()
	defer func() { stop(); <-ended }()
	if err := keeper.Apply(ctx, plan); err != nil {
		return []doctor.Line{{Level: doctor.Fail, Code: doctor.Slot, Message: "the files could not be read: " + err.Error(), Hint: hintOr(err, "are they on a disk that answers? --timeout gives it longer")}}
	}
	if in.Directory != nil {
		m := manage.New(manage.Config{Directory: dir, Keeper: keeper, Configuration: func() *config.Config { return c }})
		in.Requests, _ = m.RequestStatus(now) // what cannot be read of them is found in the state directory
	}
	in.Environments, in.Slots = keeper.Environments(), keeper.Slots()
	for _, t := range c.Tunnels {
		in.Tunnels = append(in.Tunnels, doctor.Wired{Config: t})
	}
	return in.Examine(ctx)
}

func hintOr(err error, otherwise string) string {
	if hint := hintOf(err); hint != "" {
		return hint
	}
	return otherwise
}

// ownerOf returns the user that the daemon runs as: whom its state directory belongs
// to; -1 where there is none.
func ownerOf(dir string) int {
	info, err := os.Stat(dir)
	if err != nil {
		return -1
	}
	if st, ok := info.Sys().(*syscall.Stat_t); ok {
		return int(st.Uid)
	}
	return -1
}

// reader is a state directory that is only looked at: what would be kept is dropped,
// and that is no trouble.
type reader struct{ *state.Directory }

// Commit keeps nothing.
func (reader) Commit(string, rotate.Record, *pki.Identity, int) error { return nil }

// nothing is a state directory that is not there.
type nothing struct{}

// Current has nothing.
func (nothing) Current(string) (rotate.Record, error) { return rotate.Record{}, nil }

// History has nothing.
func (nothing) History(string) ([]rotate.Record, error) { return nil, nil }

// Load has nothing.
func (nothing) Load(string, uint64) (*pki.Identity, error) { return nil, fs.ErrNotExist }

// Commit keeps nothing.
func (nothing) Commit(string, rotate.Record, *pki.Identity, int) error { return nil }
