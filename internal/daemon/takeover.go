package daemon

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/activation"
	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/handover"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
)

// errSuccessor ends a process that has nothing left to serve with.
var errSuccessor = errors.New("the process that took over has ended")

// lockState takes the lock of the state directory, or shares that of the process before: then nothing is changed there before takeOver.
func lockState(ctx context.Context, o Options, c *config.Config, before *handover.Predecessor) (*state.Directory, error) {
	if before == nil {
		return state.Lock(c.State.Directory, state.Options{})
	}
	if before.State != c.State.Directory {
		return nil, needsNewStart(c.File, "state.directory", before.State, c.State.Directory)
	}
	for _, f := range before.Of(handover.Admin) {
		if f.Address != c.Admin.Socket {
			return nil, needsNewStart(c.File, "admin.socket.path", f.Address, c.Admin.Socket)
		}
		var group string
		if err := json.Unmarshal(f.Detail, &group); err == nil && group != c.Admin.Group {
			return nil, needsNewStart(c.File, "admin.socket.group", group, c.Admin.Group)
		}
	}
	lock := before.Of(handover.Lock)
	if len(lock) != 1 {
		return nil, errors.New("the process before hands no lock over")
	}
	if err := before.Hello(ctx, o.Version); err != nil {
		return nil, err
	}
	return state.Inherit(c.State.Directory, lock[0].File, state.Options{})
}

// takeSockets takes the listening sockets that systemd made, or those of the process before.
func (d *Daemon) takeSockets(before *handover.Predecessor) error {
	d.before = before
	if before != nil {
		return d.inheritSockets(before)
	}
	activated, err := activation.Sockets()
	if err != nil {
		return err
	}
	d.setSockets(activated)
	return nil
}

// refusalOf is what the new process says of what keeps it from taking over.
func refusalOf(err error) *handover.Refusal {
	r := &handover.Refusal{Message: err.Error(), Hint: pki.Hint(err)}
	var problems config.Problems
	if errors.As(err, &problems) {
		r.Configuration = true
		var answer *admin.Error
		if errors.As(reloadError(err), &answer) {
			r.Problems = answer.Problems
		}
	}
	return r
}

// takeOver waits until everything of the process before is this one's. Nothing may have been changed before.
func (d *Daemon) takeOver(ctx context.Context) error {
	if err := d.before.Ready(ctx, d.summary(), d.stock()); err != nil {
		d.gate.Relinquish() // the files of its sockets stay
		return err
	}
	d.store.TakeOver()
	if unix, ok := d.socket.(*net.UnixListener); ok {
		unix.SetUnlinkOnClose(true)
	}
	return nil
}

// inheritSockets has the tunnels take the listening sockets of the process before.
func (d *Daemon) inheritSockets(p *handover.Predecessor) error {
	var own []tunnel.Inherited
	for _, f := range p.Of(handover.Tunnel) {
		i := tunnel.Inherited{File: f.File}
		if err := json.Unmarshal(f.Detail, &i); err != nil {
			return fmt.Errorf("understand what is handed over of %q: %w", f.Address, err)
		}
		own = append(own, i)
	}
	d.gate.Inherit(own)
	named := map[string][]*os.File{}
	for _, f := range p.Of(handover.Systemd) {
		named[f.Address] = append(named[f.Address], f.File)
	}
	d.setSockets(named)
	return nil
}

// inherited returns the listener of a kind that the process before had on this address, or nil.
func (d *Daemon) inherited(k handover.Kind, address string) (net.Listener, error) {
	if d.before == nil {
		return nil, nil
	}
	defer d.before.Close(k)
	for _, f := range d.before.Of(k) {
		if f.Address == address {
			return tunnel.Adopt(f.File)
		}
	}
	return nil, nil
}

// stock is what this process would serve.
func (d *Daemon) stock() handover.Stock {
	s := handover.Stock{Missing: map[string]string{}, CAs: map[string][]string{}}
	for _, slot := range d.keeper.Slots() {
		if slot.Snapshot() != nil {
			s.Serving = append(s.Serving, slot.Name())
		} else {
			why := "it was not looked at in time"
			if r := slot.Status().Refusal; r != nil {
				why = oneLine(r)
			}
			s.Missing[slot.Name()] = manage.Clip(why)
		}
	}
	for _, e := range d.keeper.Environments() {
		cas := []string{}
		if state := e.Trust(); state != nil {
			for _, ca := range state.Bundle().Certificates() {
				cas = append(cas, pki.Fingerprint(ca))
			}
		}
		s.CAs[e.Name()] = cas
	}
	return s
}

// losses are what this process serves, or trusts, and the new one would not, without anybody's word.
func (d *Daemon) losses(s handover.Stock, now time.Time) []string {
	var lost []string
	serving := make(map[string]bool, len(s.Serving))
	for _, name := range s.Serving {
		serving[name] = true
	}
	for _, slot := range d.keeper.Slots() {
		why, configured := s.Missing[slot.Name()]
		switch {
		case slot.Snapshot() == nil || serving[slot.Name()]:
		case configured:
			lost = append(lost, fmt.Sprintf("slot %s would serve nothing: %s", slot.Name(), why))
		default: // a reload is the word for that
			lost = append(lost, fmt.Sprintf("slot %s is not configured any more", slot.Name()))
		}
	}
	for _, e := range d.keeper.Environments() {
		cas, there := s.CAs[e.Name()]
		state := e.Trust()
		if !there || state == nil { // it is gone from the configuration, or has nothing to lose
			continue
		}
		for _, ca := range state.Bundle().Certificates() {
			if !now.After(ca.NotAfter) && !slices.Contains(cas, pki.Fingerprint(ca)) {
				lost = append(lost, fmt.Sprintf("environment %s would not trust CA %q (sha256 %s) any more", e.Name(), ca.Subject.CommonName, pki.Fingerprint(ca)))
			}
		}
	}
	return lost
}
