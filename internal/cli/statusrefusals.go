package cli

import (
	"context"
	"net"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/spinecert/spinecert/internal/admin"
)

// refusalsResult is the result of status --refusals: for programs beside all of
// status, for people alone, as it may be long.
type refusalsResult struct {
	admin.Status
	Refusals []admin.Refusal `json:"refusals"`
}

// runRefusals asks the daemon whom it refused last.
func runRefusals(ctx context.Context, o *statusOptions) (*refusalsResult, error) {
	s, err := o.daemon.client().Status(ctx)
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	refusals, err := o.daemon.client().Refusals(ctx)
	if err != nil {
		return nil, o.daemon.explain(err)
	}
	return &refusalsResult{s, refusals}, nil
}

// textWidth is that of a terminal that nobody has made wider.
const textWidth = 80

// show writes a table, and below it what is to be said about each row.
func (r *refusalsResult) show(p *page) {
	if len(r.Refusals) == 0 {
		p.line("no peer was refused since the daemon started, %s", stamp(r.Started))
		return
	}
	p.line("%s, the newest first", count(len(r.Refusals), "refusal"))
	p.blank()
	var rows [][]string
	for i := range r.Refusals {
		f := &r.Refusals[i]
		from, _, err := net.SplitHostPort(f.Peer)
		if err != nil {
			from = f.Peer
		}
		rows = append(rows, []string{strconv.Itoa(i + 1), stamp(f.Last), strconv.FormatUint(f.Count, 10), f.Tunnel, f.Result, f.Reason, from})
	}
	p.table([]string{"", "LAST", "TIMES", "TUNNEL", "RESULT", "REASON", "FROM"}, rows)
	for i := range r.Refusals {
		p.blank()
		showRefusal(p, strconv.Itoa(i+1), &r.Refusals[i])
	}
}

// showRefusal writes everything about one refusal that is not in the table.
func showRefusal(p *page, number string, f *admin.Refusal) {
	who := "no certificate is known of it"
	if f.Name != "" || f.Serial != "" {
		who = f.Name + ", serial " + f.Serial + ", issued by " + f.Issuer
	}
	indent := strings.Repeat(" ", len(number)+2)
	wrap(p, number+"  ", indent, who)
	when := "at " + stamp(f.Time)
	if f.Count > 1 {
		when = "since " + stamp(f.Time)
	}
	if f.Peer != "" {
		when += ", last from " + f.Peer
	}
	wrap(p, indent, indent, when)
	for _, line := range []struct{ label, text string }{{"", f.Message}, {"rule: ", f.Rule}, {"hint: ", f.Hint}} {
		if line.text != "" {
			wrap(p, indent, indent, line.label+line.text)
		}
	}
}

// wrap writes text in lines of textWidth, as far as its words permit.
func wrap(p *page, first, rest, text string) {
	line, used := first, false
	for _, word := range strings.Fields(safe(text)) {
		if used && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > textWidth {
			p.line("%s", line)
			line, used = rest, false
		}
		if used {
			line += " "
		}
		line, used = line+word, true
	}
	p.line("%s", line)
}

// tunnelWord says what became of the last peers of a tunnel, where they were refused.
func tunnelWord(t *admin.Tunnel, now time.Time) string {
	if t.LastRefused.IsZero() || t.LastAccepted.After(t.LastRefused.Time) {
		return ""
	}
	accepted := "nobody was accepted yet"
	if !t.LastAccepted.IsZero() {
		accepted = "somebody was accepted " + ago(now.Sub(t.LastAccepted.Time)) + " ago"
	}
	return "the last peer was refused (" + t.LastRefusedReason + "), " + accepted + "; see spinecert status --refusals"
}
