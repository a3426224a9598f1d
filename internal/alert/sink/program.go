package sink

import (
	"context"
	"time"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/deliver/command"
	"github.com/spinecert/spinecert/internal/deliver/failure"
	"github.com/spinecert/spinecert/pki"
)

// program runs a program of the operator's for each message.
type program struct {
	argv    []string
	timeout time.Duration
	version string
}

// Send runs the program, and takes its exit status 0 as that it has the message.
func (p *program) Send(ctx context.Context, m *alert.Message) error {
	m = tidy(m)
	body, err := documentOf(m, p.version)
	if err != nil {
		return unwritten("the message as JSON", err)
	}
	ctx, stop := limited(ctx, p.timeout)
	defer stop()
	env := []string{
		"SPINECERT_EVENT=" + string(event(m)),
		"SPINECERT_SEVERITY=" + string(m.Severity()),
		"SPINECERT_GROUP=" + m.Group,
		"SPINECERT_ID=" + m.ID,
	}
	if err := command.RunInput(ctx, p.argv, env, append(body, '\n'), failure.ReloadFailed); err != nil {
		advice := pki.Hint(err)
		if failure.ReasonOf(err, "") == failure.Timeout {
			advice = "find out what it waits for, or give the sink a longer timeout"
		}
		return &Error{text: clean(err.Error(), longLimit), cause: err, advice: advice}
	}
	return nil
}
