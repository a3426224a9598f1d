package cli

import (
	"context"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/internal/manage"
)

func newCSRListCmd(a *app) *cobra.Command {
	return &cobra.Command{
		Use:   "list",
		Short: "List the requests that wait for their certificates",
		Args:  exactArgs(),
		RunE: func(cmd *cobra.Command, _ []string) error {
			ctx, cancel := a.global.wait(cmd.Context(), usualWait)
			defer cancel()
			result, err := runCSRList(ctx, a.global.writer(), time.Now())
			return outcome(a, cmd, result, err)
		},
	}
}

// csrListResult is the result of csr list.
type csrListResult struct {
	Requests []admin.Request `json:"requests"` // oldest first
	Offline  bool            `json:"offline"`
}

func runCSRList(ctx context.Context, w writer, now time.Time) (*csrListResult, error) {
	requests, alone, err := through(w, func(c *admin.Client) ([]admin.Request, error) {
		s, err := c.Status(ctx)
		return s.Requests, err
	}, func(c *config.Config) ([]admin.Request, error) {
		return readRequests(c, func(m *manage.Manager) ([]admin.Request, error) {
			all, err := m.RequestStatus(now)
			if err != nil {
				err = failed(codeState, err)
			}
			return all, err
		})
	})
	if err != nil && len(requests) == 0 {
		return nil, err
	}
	return &csrListResult{Requests: append([]admin.Request{}, requests...), Offline: alone}, err
}

// show writes a table.
func (r *csrListResult) show(p *page) {
	if len(r.Requests) == 0 {
		p.line("no request waits")
		return
	}
	showRequests(p, r.Requests)
}

// showRequests writes the table of requests, for status as well.
func showRequests(p *page, requests []admin.Request) {
	var rows [][]string
	var troubles []trouble
	for i := range requests {
		q := &requests[i]
		rows = append(rows, []string{q.ID, q.Slot, q.Environment, q.State, stamp(q.Created), ago(time.Duration(q.Age) * time.Second), q.Key, q.By, q.FQDN})
		troubles = append(troubles, trouble{q.ID, q.LastError, q.Hint})
	}
	section(p, []string{"REQUEST", "SLOT", "ENVIRONMENT", "STATE", "MADE", "AGE", "KEY", "BY", "NAME"}, rows, troubles...)
}

func newCSRShowCmd(a *app) *cobra.Command {
	var mail bool
	cmd := &cobra.Command{
		Use:   "show [--mail] ID",
		Short: "Show a request that waits, and the request itself again",
		Args:  exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.global.wait(cmd.Context(), usualWait)
			defer cancel()
			result, err := runCSRShow(ctx, a.global.writer(), args[0], time.Now())
			if result != nil {
				result.mail = mail
			}
			return outcome(a, cmd, result, err)
		},
	}
	cmd.Flags().BoolVar(&mail, "mail", false, "write the mail that asks for the certificate, with the request in it")
	return cmd
}

// csrShowResult is the result of csr show.
type csrShowResult struct {
	admin.CSRResult
	Offline bool `json:"offline"`
	mail    bool
}

func runCSRShow(ctx context.Context, w writer, id string, now time.Time) (*csrShowResult, error) {
	found, alone, err := through(w, func(c *admin.Client) (admin.CSRResult, error) { return c.Request(ctx, id) },
		func(c *config.Config) (admin.CSRResult, error) {
			r, err := readRequests(c, func(m *manage.Manager) (admin.CSRResult, error) { return m.AnswerRequest(id, now) })
			if err == nil && r.Request.ID == "" {
				err = &admin.Error{Code: admin.CodeUnknown, Message: fmt.Sprintf("there is no request %q", id), Hint: "spinecert csr list shows those there are"}
			}
			return r, err
		})
	if err != nil {
		return nil, err
	}
	return &csrShowResult{CSRResult: found, Offline: alone}, nil
}

// show writes the facts and the request.
func (r *csrShowResult) show(p *page) {
	q := &r.Request
	p.line("request for %s, slot %s", q.FQDN, q.Slot)
	p.fact(2, "id", q.ID)
	p.fact(2, "environment", q.Environment)
	p.fact(2, "reason", q.Reason)
	p.fact(2, "made", fmt.Sprintf("%s by %s, %s ago", stamp(q.Created), q.By, ago(time.Duration(q.Age)*time.Second)))
	p.fact(2, "key", q.Key+", public key sha256 "+r.KeySHA256)
	p.fact(2, "alternative", q.SANs...)
	switch {
	case q.State == admin.RequestAnswered && q.LastError != "":
		p.fact(2, "state", "answered "+stamp(q.Answered.Time)+", and waits: "+q.LastError)
	case q.State == admin.RequestAnswered:
		p.fact(2, "state", "answered "+stamp(q.Answered.Time))
	default:
		p.fact(2, "state", "waits for its answer")
	}
	p.blank()
	if r.mail {
		letter := enrol.Letter(r.Letter)
		showLetter(p, &letter)
		return
	}
	p.raw(r.CSR)
}

func newCSRCancelCmd(a *app) *cobra.Command {
	var yes bool
	cmd := &cobra.Command{
		Use:   "cancel ID",
		Short: "Give a request up, and destroy its key",
		Long: "Removes a request with its private key: a certificate that still comes for it cannot be used. What the slot serves goes on.\n" +
			"Exit status 2: there is no such request.",
		Args: exactArgs("ID"),
		RunE: func(cmd *cobra.Command, args []string) error {
			ctx, cancel := a.global.wait(cmd.Context(), changeWait)
			defer cancel()
			if err := confirmCancel(ctx, a, args[0], yes); err != nil {
				return a.finish(cmd, nil, err)
			}
			result, err := runCSRCancel(ctx, a.global.writer(), args[0])
			return outcome(a, cmd, result, err)
		},
	}
	cmd.Flags().BoolVar(&yes, "yes", false, "do not ask, on a terminal")
	return cmd
}

// confirmCancel asks on a terminal: a key that is gone does not come back. Who
// cannot be asked is a program, and means it.
func confirmCancel(ctx context.Context, a *app, id string, yes bool) error {
	q := newQuestion(a)
	if yes || q == nil {
		return nil
	}
	r, err := runCSRShow(ctx, a.global.writer(), id, time.Now())
	if err != nil {
		return err
	}
	text := "Destroy its private key? If it was sent, the certificate that comes for it cannot be used."
	if r.Request.State == admin.RequestAnswered {
		text = "Its answer is here and waits. Destroy its private key, and with it the certificate?"
	}
	ok, err := q.ask(r.show, text)
	if err == nil && !ok {
		err = declined("nothing was cancelled")
	}
	return err
}

// csrCancelResult is the result of csr cancel.
type csrCancelResult struct {
	admin.CancelResult
	Offline bool `json:"offline"`
}

func runCSRCancel(ctx context.Context, w writer, id string) (*csrCancelResult, error) {
	ask := admin.CancelRequest{ID: id}
	gone, alone, err := through(w, func(c *admin.Client) (admin.CancelResult, error) { return c.Cancel(ctx, ask) },
		func(c *config.Config) (admin.CancelResult, error) {
			d, err := lockState(c)
			if err != nil {
				return admin.CancelResult{}, err
			}
			defer d.close()
			return d.manager().AnswerCancel(ctx, ask, nil)
		})
	if err != nil {
		return nil, err
	}
	return &csrCancelResult{CancelResult: gone, Offline: alone}, nil
}

// show says what is gone.
func (r *csrCancelResult) show(p *page) {
	p.line("request %s for %s, slot %s, is cancelled and its private key destroyed.", r.Request.ID, r.Request.FQDN, r.Request.Slot)
	p.line("If it was sent already, tell the desk: its certificate cannot be used.")
}
