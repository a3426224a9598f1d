package cli

import (
	"context"
	"strings"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/enrol"
	"github.com/spinecert/spinecert/internal/manage"
)

// runCSRSlot makes a request for a managed slot, through the daemon if there is one.
func runCSRSlot(ctx context.Context, w writer, o *csrOptions) (*csrResult, error) {
	ask := admin.CSRRequest{Slot: o.slot, Key: o.kind, SANs: o.sans}
	made, alone, err := through(w, func(c *admin.Client) (admin.CSRResult, error) { return c.NewRequest(ctx, ask) },
		func(c *config.Config) (admin.CSRResult, error) {
			if _, err := slotOf(c, o.slot); err != nil {
				return admin.CSRResult{}, err // before anything is made
			}
			d, err := lockState(c)
			if err != nil {
				return admin.CSRResult{}, err
			}
			defer d.close()
			return d.manager().AnswerCSR(ctx, ask, w.by(), nil)
		})
	if err != nil {
		return nil, err
	}
	return o.slotResult(&made, alone), nil
}

func (o *csrOptions) slotResult(made *admin.CSRResult, alone bool) *csrResult {
	asked := &made.Request
	r := &csrResult{ID: asked.ID, FQDN: asked.FQDN, SANs: list(asked.SANs), Key: asked.Key, KeySHA256: made.KeySHA256, Notes: requestNotes(asked.Key, asked.SANs),
		Slot: asked.Slot, Environment: asked.Environment, Reason: asked.Reason, Request: made.CSR, Inbox: made.Inbox, Offline: alone}
	for _, d := range enrol.DesksFor(asked.Environment, asked.FQDN) {
		r.SendTo = append(r.SendTo, csrDesk(d))
	}
	if o.mail {
		letter := enrol.Letter(made.Letter)
		r.Mail = &letter
	}
	return r
}

// showSlot says what was made for a slot and what to do with it.
func (r *csrResult) showSlot(p *page) {
	p.line("request for %s, slot %s", r.FQDN, r.Slot)
	p.fact(2, "id", r.ID)
	p.fact(2, "environment", r.Environment)
	p.fact(2, "reason", r.Reason)
	p.fact(2, "key", r.Key+", public key sha256 "+r.KeySHA256+" (it stays in the state directory)")
	p.fact(2, "alternative", r.SANs...)
	for _, n := range r.Notes {
		p.line("note: %s", n.Message)
	}
	if r.Offline {
		p.line("note: %s", offlineNote)
	}
	p.blank()
	what := "the request below"
	if r.Mail != nil {
		what = "the mail below"
	}
	p.line("Next: see that %s is in DNS, and send %s to", r.FQDN, what)
	r.showDesks(p)
	p.line("and then take the answer back, in whatever form it comes:")
	p.line("  spinecert import ANSWER")
	p.line("or drop it into %s. What serves goes on meanwhile.", quoted(r.Inbox))
	p.blank()
	if r.Mail != nil {
		showLetter(p, r.Mail)
		return
	}
	p.raw(r.Request)
}

func (r *csrResult) showDesks(p *page) {
	for _, d := range r.SendTo {
		to := d.Address
		if d.Other != "" {
			to += ", or use " + d.Other
		}
		p.line("  %s  (%s)", to, d.For)
	}
}

// showLetter writes a mail.
func showLetter(p *page, l *enrol.Letter) {
	p.line("To: %s", l.To)
	p.line("Subject: %s", l.Subject)
	p.blank()
	for line := range strings.Lines(l.Body) {
		p.line("%s", strings.TrimSuffix(line, "\n"))
	}
}

// readRequests is manage over a state directory that is only read; a directory
// that is not there has no requests.
func readRequests[R any](c *config.Config, read func(*manage.Manager) (R, error)) (R, error) {
	var none R
	d, err := openState(c)
	if err != nil || d == nil {
		return none, err
	}
	defer d.close()
	return read(d.manager())
}
