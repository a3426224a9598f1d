package sandbox

import (
	"context"
	"fmt"
	"io"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/term"
)

// How often the picture is drawn on a terminal, and a line written elsewhere.
const (
	redrawEvery = 500 * time.Millisecond
	lineEvery   = 5 * time.Second
)

// keptEvents is how many of the last events the live picture shows.
const keptEvents = 5

// picture shows a run while it goes on.
type picture struct {
	out   io.Writer
	live  bool
	stage *stage
	tally *tally

	mu     sync.Mutex
	events []string
	drawn  int // lines of the last drawing, to be drawn over
}

func newPicture(out io.Writer, s *stage, t *tally) *picture {
	return &picture{out: out, live: isTerminal(out), stage: s, tally: t}
}

// isTerminal tells whether somebody watches.
func isTerminal(out io.Writer) bool {
	f, ok := out.(*os.File)
	return ok && term.IsTerminal(int(f.Fd()))
}

// describe says what is where, once.
func describe(out io.Writer, f facts) error {
	var b strings.Builder
	fmt.Fprintf(&b, `
  consumer --HTTP--> spinecertd --TLS-MA--> stand-in for the SSP --TLS-MA--> spinecertd --HTTP--> provider

  consumer's tunnel  %s, %s
  stand-in           %s  (%s)
  provider's tunnel  %s  (%s)
  provider           %s
  configuration      %s
  trust              %s
  CRLs               %s
  log of the daemon  %s  (pid %d)
  status page        %s
%s
Try, in another terminal:
`, f.Listeners[consumerTunnel], f.Listeners[consumerTunnel+" (unix)"], f.Listeners["proxy"], f.Names["proxy"],
		f.Listeners[providerTunnel], f.Names["provider"], f.Listeners["provider"], f.Config, f.Trust, f.Listeners["crl"], f.Log, f.DaemonPID, f.Page, rehearsed(f)+revocable(f))
	for _, command := range f.Commands {
		fmt.Fprintf(&b, "  %s\n", command)
	}
	b.WriteString("\n")
	_, err := io.WriteString(out, b.String())
	return err
}

// rehearsed says where services listen.
func rehearsed(f facts) string {
	text := ""
	for _, name := range slices.Sorted(maps.Keys(f.Services)) {
		text += fmt.Sprintf("  %-17s  %s  (%s)\n", name, f.Services[name], serviceName)
	}
	return text
}

// revocable says who may be revoked, and how, where somebody may do it by hand.
func revocable(f facts) string {
	if f.Revoke == "" {
		return ""
	}
	return fmt.Sprintf("\nRevoked in turn while they talk, or by a file of that name in %s, and back once it is gone: %s\n", f.Revoke, strings.Join(f.Peers, ", "))
}

// event shows something that happened: as a line, or in the live picture.
func (p *picture) event(text string) {
	text = time.Now().Format("15:04:05 ") + strings.ReplaceAll(text, "\n", "; ")
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		_, _ = fmt.Fprintln(p.out, text)
		return
	}
	p.events = append(p.events, text)
	p.events = p.events[max(len(p.events)-keptEvents, 0):]
}

// run draws until ctx ends, and once more then.
func (p *picture) run(ctx context.Context) {
	every := lineEvery
	if p.live {
		every = redrawEvery
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	var seen status
	var last books
	began := time.Now()
	for {
		select {
		case <-ctx.Done():
			// What stays on the terminal. Elsewhere it would follow a line that says the same.
			if p.live || time.Since(began) > time.Second {
				p.draw(p.lines(seen, last, time.Since(began)))
			}
			return
		case now := <-tick.C:
			if s, err := p.stage.daemon.status(ctx); err == nil || ctx.Err() == nil {
				seen = s // a picture without generations says that there is no answer
			}
			total, _ := p.tally.totals()
			p.draw(p.lines(seen, last, now.Sub(began)))
			last, began = total, now
		}
	}
}

// lines is the picture. last are the books as they were since ago.
func (p *picture) lines(s status, last books, since time.Duration) []string {
	total, causes := p.tally.totals()
	rate := float64(total.Requests-last.Requests) / max(since.Seconds(), 0.001)
	latency := ""
	if d, ok := p.tally.last(); ok {
		latency = fmt.Sprintf("  last served after %.1f ms (p99 %.1f)", milliseconds(d), p.tally.latency().P99)
	}
	generations := make([]string, 0, len(s.Slots))
	for _, slot := range s.Slots {
		generations = append(generations, fmt.Sprintf("%s %d %s", slot.Name, slot.Generation, slot.State))
	}
	lines := []string{
		fmt.Sprintf("requests %d (%.0f/s)  failed %d  connections %d  resumed %d", total.Requests, rate, total.Failed, total.Connections, total.Resumed),
		fmt.Sprintf("rotations %d  refused %d  broken served %d%s", p.tally.rotations(), p.tally.refusals(), total.BrokenServed, latency),
	}
	if cut, latency := p.tally.cut(); cut.Revocations > 0 {
		text := fmt.Sprintf("revocations %d  connections cut %d  refused %d  wrongly cut %d", cut.Revocations, cut.Cut, cut.Refused, cut.WronglyCut)
		if latency.Samples > 0 {
			text += fmt.Sprintf("  cut after %.0f ms (p50), %.0f (p99)", latency.P50, latency.P99)
		}
		lines = append(lines, text)
	}
	if len(generations) > 0 {
		lines = append(lines, "generations: "+strings.Join(generations, ", "))
	}
	for _, v := range p.stage.services {
		r := v.totals()
		lines = append(lines, fmt.Sprintf("%s: rotations %d  proved %d  rolled back %d  requests %d  failed %d", r.Name, r.Rotations, r.Proved, r.RolledBack, r.Requests, r.FailedRequests))
	}
	for _, c := range causes[:min(len(causes), 3)] {
		lines = append(lines, fmt.Sprintf("%d x %s", c.Count, c.Cause))
	}
	return lines
}

// draw writes the lines over the last ones, or as one plain line.
func (p *picture) draw(lines []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.live {
		_, _ = fmt.Fprintln(p.out, time.Now().Format("15:04:05 ")+strings.Join(lines, "  |  "))
		return
	}
	lines = append(lines, p.events...)
	width := 80
	if f, ok := p.out.(*os.File); ok {
		if w, _, err := term.GetSize(int(f.Fd())); err == nil && w > 0 {
			width = w
		}
	}
	var b strings.Builder
	if p.drawn > 0 {
		fmt.Fprintf(&b, "\x1b[%dA", p.drawn) // up to the first line of the last drawing
	}
	b.WriteString("\x1b[J") // and clear from there
	for _, line := range lines {
		// A wrapped line would take two rows, and the next drawing would start too low.
		if runes := []rune(line); len(runes) >= width {
			line = string(runes[:width-1])
		}
		b.WriteString(line + "\n")
	}
	p.drawn = len(lines)
	_, _ = io.WriteString(p.out, b.String())
}
