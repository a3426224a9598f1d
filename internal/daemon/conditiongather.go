package daemon

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/clock"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
)

// gatherer completes the conditions of one look at everything.
type gatherer struct {
	d      *Daemon
	now    time.Time
	config *config.Config
	clock  clock.Judgement
	since  func(id string) time.Time
	out    []condition.Condition

	uses map[string][]string // what hangs on a slot; made when first asked for
	on   map[string]string   // the slot of a tunnel; made with uses
}

func newGatherer(d *Daemon, now time.Time, room int) *gatherer {
	return &gatherer{d: d, now: now, config: d.currentConfig(), clock: d.clock.judgement(), since: d.alerts.Since, out: make([]condition.Condition, 0, room+64)}
}

func (g *gatherer) add(c condition.Condition, detail string) {
	if g.clock.Suspect && c.Code.Definition().Dated {
		c.Message += "; the clock of this host is suspect, see clock_suspect"
	}
	g.place(&c)
	c.Complete(detail)
	if !c.Code.Definition().Stops || c.Code == condition.CRLStale && c.Severity != condition.Critical && c.Ends.IsZero() {
		c.Stops = "" // peers are accepted unchecked at worst
	}
	if !c.Ends.After(g.now) {
		c.Ends = condition.Moment{} // it has stopped
	}
	if c.Since.IsZero() {
		c.Since = g.since(c.ID)
	}
	c.Since = c.Since.UTC()
	g.out = append(g.out, c)
}

// place says whose identity a condition is about, what hangs on it, and who is hit.
func (g *gatherer) place(c *condition.Condition) {
	switch c.Kind {
	case condition.Slot:
		c.Slot = c.Subject
		c.Stops = enumerate(g.usesOf(c.Subject), "")
	case condition.Tunnel:
		g.index()
		c.Stops, c.Slot = "tunnel "+c.Subject, g.on[c.Subject]
	case condition.Service:
		c.Stops = "service " + c.Subject
		if s, ok := g.config.Service(c.Subject); ok {
			c.Slot = s.Slot
		}
	case condition.Environment:
		g.placeEnvironment(c)
		return
	}
	if s, ok := g.config.Slot(c.Slot); ok {
		c.Affects = condition.Affects{ODS: s.Affects.ODS, ASIDs: s.Affects.ASIDs, Note: s.Affects.Note}
	}
}

// placeEnvironment gathers those of all slots of an environment.
func (g *gatherer) placeEnvironment(c *condition.Condition) {
	var stops []string
	for i := range g.config.Slots {
		s := &g.config.Slots[i]
		if s.Environment != c.Subject {
			continue
		}
		for _, use := range g.usesOf(s.Name) {
			if len(stops) <= maxEnumerated {
				stops = append(stops, use)
			}
		}
		c.Affects.ODS, c.Affects.ASIDs = join(c.Affects.ODS, s.Affects.ODS), join(c.Affects.ASIDs, s.Affects.ASIDs)
	}
	c.Stops = enumerate(stops, " and others")
}

// usesOf names the tunnels and services on a slot.
func (g *gatherer) usesOf(slot string) []string {
	g.index()
	return g.uses[slot]
}

// index makes uses and on, unless they are there.
func (g *gatherer) index() {
	if g.uses != nil {
		return
	}
	g.uses, g.on = map[string][]string{}, make(map[string]string, len(g.config.Tunnels))
	for i := range g.config.Tunnels {
		t := &g.config.Tunnels[i]
		g.uses[t.Slot] = append(g.uses[t.Slot], "tunnel "+t.Name)
		g.on[t.Name] = t.Slot
	}
	for i := range g.config.Services {
		s := &g.config.Services[i]
		g.uses[s.Slot] = append(g.uses[s.Slot], "service "+s.Name)
	}
}

// maxEnumerated bounds what a condition of thousands of slots names.
const maxEnumerated = 20

// enumerate joins names, as many as there is room for.
func enumerate(names []string, more string) string {
	if len(names) <= maxEnumerated {
		return strings.Join(names, ", ")
	}
	if more == "" {
		more = fmt.Sprintf(" and %d more", len(names)-maxEnumerated)
	}
	return strings.Join(names[:maxEnumerated], ", ") + more
}

// join adds what is not there yet, within bounds.
func join(to, more []string) []string {
	for _, name := range more {
		if len(to) < maxEnumerated && !slices.Contains(to, name) {
			to = append(slices.Clip(to), name)
		}
	}
	return to
}
