package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"time"

	"golang.org/x/term"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
)

// slotImportResult is the result of import into a slot.
type slotImportResult struct {
	admin.ImportResult
	Offline bool `json:"offline"` // no daemon took part
	now     time.Time
}

// checkSlot judges the flags where no directory is named: the answer is for a slot.
func (o *importOptions) checkSlot() error {
	if len(o.trust) > 0 {
		return usagef("spinecert trust add FILE adds a CA to an environment; with --key and --out, --trust judges without configuration",
			"import: --trust is for --key and --out: an answer for a slot is judged by the trust of its environment")
	}
	if len(o.files) > 0 {
		return nil
	}
	if f, ok := o.stdin.(*os.File); ok && term.IsTerminal(int(f.Fd())) {
		return usagef("spinecert import FILE; or spinecert import - and paste the mail, then Ctrl-D", "import: want at least one FILE, or - for standard input")
	}
	o.files = []string{standardInput}
	return nil
}

// runImportSlot takes an answer into the slot whose request it answers, through the
// daemon if there is one. There is a result also where it has to wait.
func runImportSlot(ctx context.Context, w writer, o *importOptions) (*slotImportResult, error) {
	ask, err := o.request()
	if err != nil {
		return nil, err
	}
	done, alone, err := through(w, func(c *admin.Client) (admin.ImportResult, error) { return c.Import(ctx, ask) },
		func(c *config.Config) (admin.ImportResult, error) { return importAlone(ctx, c, ask) })
	if err != nil && done.Slot == "" {
		return nil, err
	}
	return &slotImportResult{ImportResult: done, Offline: alone, now: o.now}, err
}

// request reads everything that goes to the daemon, before anything is asked.
func (o *importOptions) request() (admin.ImportRequest, error) {
	r := admin.ImportRequest{Request: o.id, Allow: o.allow, DryRun: o.dryRun}
	var err error
	if r.Password, err = readPassword(o.passwordFile); err != nil {
		return r, err
	}
	size := 0
	for _, name := range o.files {
		in, err := readInput(name, o.stdin)
		if err != nil {
			return r, err
		}
		if size += len(in.data); size > admin.MaxAnswer {
			return r, unreadable(name, fmt.Errorf("more than %d bytes in all", admin.MaxAnswer))
		}
		r.Files = append(r.Files, admin.File{Name: name, Data: in.data})
	}
	return r, nil
}

// importAlone does without the daemon what it would do. A dry run takes no lock.
func importAlone(ctx context.Context, c *config.Config, ask admin.ImportRequest) (admin.ImportResult, error) {
	open := lockState
	if ask.DryRun {
		open = openState
	}
	d, err := open(c)
	if err != nil {
		return admin.ImportResult{}, err
	}
	if d == nil {
		f := judged("no_request", errors.New("no request waits: there is no state directory "+c.State.Directory))
		f.hint = "make a request first: spinecert csr new --slot SLOT"
		return admin.ImportResult{}, f
	}
	defer d.close()
	if err := d.keep(ctx, func(s config.Slot) bool { return s.Managed != nil }); err != nil {
		return admin.ImportResult{}, err
	}
	return d.manager().AnswerImport(ctx, ask, nil)
}

// show says what the answer is and what became of it.
func (r *slotImportResult) show(p *page) {
	what := fmt.Sprintf("the certificate of request %s", r.Request)
	if r.Request == "" {
		what = "a certificate on a key that the slot has"
	}
	p.line("%s: %s, slot %s", r.Subject, what, r.Slot)
	p.fact(2, "names", r.Names...)
	p.fact(2, "valid", fmt.Sprintf("%s to %s, %s", stamp(r.NotBefore), stamp(r.NotAfter), remaining(r.NotAfter, r.now)))
	p.fact(2, "sha256", r.SHA256)
	p.fact(2, "found in", r.FoundIn)
	for i, ca := range r.Chain {
		p.fact(2, fmt.Sprintf("chain %d", i+1), fmt.Sprintf("%s, until %s, from the %s", ca.Subject, stamp(ca.NotAfter), ca.From))
	}
	if r.Root != "" {
		p.fact(2, "root", r.Root+", trusted in environment "+r.Environment)
	}
	for _, note := range r.Notes {
		p.line("note: %s", note)
	}
	p.blank()
	r.showOutcome(p)
	for _, id := range r.Open {
		p.line("Request %s of this slot still waits; spinecert csr cancel %s gives it up.", id, id)
	}
	if r.Offline && !r.DryRun && r.State != "unchanged" {
		p.line("%s", offlineNote)
	}
}

func (r *slotImportResult) showOutcome(p *page) {
	switch {
	case r.DryRun && r.State == "waiting":
		p.line("Nothing was changed. Without --dry-run it would stay with its request, and wait: %s.", r.Again)
	case r.DryRun:
		p.line("Nothing was changed. Without --dry-run slot %s would serve it.", r.Slot)
	case r.State == "waiting":
		p.line("It stays with its request, and waits: %s.", r.Again)
	case r.State == "unchanged":
		p.line("Nothing to do: it is generation %d of slot %s, and in force already.", r.Generation, r.Slot)
	case r.Offline:
		p.line("It is generation %d of slot %s.", r.Generation, r.Slot)
	default:
		p.line("In force: slot %s serves it as generation %d.", r.Slot, r.Generation)
	}
}
