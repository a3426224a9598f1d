package sink

import (
	"context"
	"fmt"
	"time"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
)

// Options is what a sink is told of the daemon.
type Options struct {
	Host    string // name of this host, as in messages
	Version string // of the program
	// Log writes a message to the daemon's own log; for sinks of type journal. The message is free of what could harm a terminal.
	Log func(*alert.Message)
}

// Sink is one way out. Exactly one of Sender and Mirror is set.
type Sink struct {
	Name   string
	Type   string             // one of the types of config
	Min    condition.Severity // the least severity that is told; the caller leaves the others out
	Sender alert.Sender
	Mirror alert.Mirror // for systems that are shown the whole picture each minute
}

// New makes a sink of its configuration. It connects to nothing. The error names the file of a template that cannot be used, or what else is wrong, and is
// an error of the configuration. It does not name the sink.
func New(c config.Sink, o Options) (Sink, error) {
	s := Sink{Name: c.Name, Type: c.Type, Min: condition.Severity(c.Min)}
	o.Host, o.Version = clean(o.Host, nameLimit), clean(o.Version, nameLimit)
	var err error
	switch c.Type {
	case config.SinkEmail:
		s.Sender, err = newEmail(c, o)
	case config.SinkAlertmanager:
		s.Mirror = &alertmanager{far: newEndpoint(c, o), host: o.Host, now: time.Now}
	case config.SinkWebhook:
		s.Sender, err = newWebhook(c, o)
	case config.SinkExec:
		s.Sender = &program{argv: c.Command, timeout: c.Timeout, version: o.Version}
	case config.SinkJournal:
		s.Sender = journal{o.Log}
	default:
		err = fmt.Errorf("unknown type %q", c.Type)
	}
	if err != nil {
		return Sink{}, err
	}
	return s, nil
}

// journal writes to the log of the daemon.
type journal struct{ log func(*alert.Message) }

func (j journal) Send(_ context.Context, m *alert.Message) error {
	if j.log != nil {
		j.log(tidy(m))
	}
	return nil
}

// limited bounds an attempt. 0 is no limit but that of ctx.
func limited(ctx context.Context, timeout time.Duration) (context.Context, context.CancelFunc) {
	if timeout <= 0 {
		return context.WithCancel(ctx)
	}
	return context.WithTimeout(ctx, timeout)
}
