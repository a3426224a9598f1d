package handover

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// offerLimit bounds the wait for the first message, which is there when the process starts.
const offerLimit = 10 * time.Second

// Predecessor is the old process, seen by the new one.
type Predecessor struct {
	Version    string
	State      string
	Supervised bool
	Files      []File
	line       *line
}

// Inherited returns the process that this one is to take over from, or nil when there is none. The variables
// of the environment that are about the old process are made this one's.
func Inherited(ctx context.Context) (*Predecessor, error) {
	value, ok := os.LookupEnv(Variable)
	if !ok {
		return nil, nil
	}
	if err := os.Unsetenv(Variable); err != nil {
		return nil, err
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd < firstFile {
		return nil, fmt.Errorf("%s is no descriptor: %q; it is set by `spinecert upgrade` alone", Variable, value)
	}
	unix.CloseOnExec(fd)
	l, err := newLine(os.NewFile(uintptr(fd), "handover"))
	if err != nil {
		return nil, fmt.Errorf("talk to the process that hands over: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctx, offerLimit)
	defer cancel()
	m, err := l.await(ctx, stepOffer)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("talk to the process that hands over: %w", err), l.conn.Close())
	}
	p := &Predecessor{Version: m.Version, State: m.State, Supervised: m.Supervised, Files: m.Files, line: l}
	for i := range p.Files {
		f := &p.Files[i]
		unix.CloseOnExec(f.FD)
		f.File = os.NewFile(uintptr(f.FD), f.Address)
	}
	if m.Protocol != protocol {
		err := fmt.Errorf("version %s hands over in another way than this one understands", m.Version)
		return nil, errors.Join(err, p.Refuse(&Refusal{Message: err.Error(), Hint: "systemctl restart spinecertd"}))
	}
	return p, p.adopt()
}

// adopt makes what the environment says of the old process true of this one.
func (p *Predecessor) adopt() error {
	own := strconv.Itoa(os.Getpid())
	var errs []error
	if os.Getenv("WATCHDOG_USEC") != "" {
		errs = append(errs, os.Setenv("WATCHDOG_PID", own))
	}
	if p.Supervised {
		errs = append(errs, os.Setenv("SYSTEMD_EXEC_PID", own))
	}
	return errors.Join(errs...)
}

// Of returns the descriptors of a kind.
func (p *Predecessor) Of(k Kind) []File {
	var out []File
	for _, f := range p.Files {
		if f.Kind == k {
			out = append(out, f)
		}
	}
	return out
}

// Hello says that the configuration is good, and waits until everything may be read: nothing is changed then.
func (p *Predecessor) Hello(ctx context.Context, version string) error {
	return p.exchange(ctx, message{Step: stepHello, Version: version}, stepStage)
}

// Ready says that all is staged, and waits until this process is the one that writes and accepts. An error means that
// it is not, and is to end without a trace.
func (p *Predecessor) Ready(ctx context.Context, summary string, stock Stock) error {
	return p.exchange(ctx, message{Step: stepReady, Summary: summary, Stock: &stock}, stepGo)
}

func (p *Predecessor) exchange(ctx context.Context, m message, answer string) error {
	err := p.line.say(m)
	if err == nil {
		_, err = p.line.await(ctx, answer)
	}
	if err != nil {
		return fmt.Errorf("take over from the running daemon: %w", err)
	}
	return nil
}

// Serving says that connections are accepted. The socket pair stays open: its end tells the old process that this one has ended.
func (p *Predecessor) Serving() error { return p.line.say(message{Step: stepServing}) }

// Refuse says why this process does not take over.
func (p *Predecessor) Refuse(r *Refusal) error {
	return errors.Join(p.line.say(message{Step: stepRefuse, Refusal: r}), p.line.conn.Close())
}

// Close closes descriptors of a kind that are not needed any more.
func (p *Predecessor) Close(k Kind) {
	for _, f := range p.Of(k) {
		_ = f.File.Close()
	}
}
