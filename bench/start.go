package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/admin"
)

const (
	// startName selects the figures of this file in -only, upgradeName those of upgrade.go.
	startName   = "start"
	upgradeName = "upgrade"
	// readyLimit is when a daemon that does not say READY has failed.
	readyLimit = 2 * time.Minute
	// savedLimit is for a state directory to hold everything.
	savedLimit = 5 * time.Minute
	// fewKeys are shared by many slots, as making a key for each would take longer than all that is measured. What a
	// slot costs does not depend on it: each has files of its own.
	fewKeys = 32
)

// life is what a run found out about how daemons begin, or follow each other.
type life struct {
	title string
	load  string // load average when it began
	facts []fact
}

// living is what the figures of one life share.
type living struct {
	*lab
	daemon proxy
	crowds map[int]*crowd // by how many slots
	out    *life
}

// lifeKind is one part of what is measured of many slots.
type lifeKind struct {
	name, title string
	take        func(*living, context.Context) error
}

func livesOf() []lifeKind {
	return []lifeKind{
		{startName, "Start", (*living).starts}, {upgradeName, "Upgrade", (*living).upgrades},
		{scrapeName, "Scrape", (*living).scrapes}, {alertsName, "Alerts", (*living).alerts}, {pageName, "Status page", (*living).page},
	}
}

// lives takes the figures of those of livesOf that are asked for. What could be taken is returned also when something
// could not.
func (l *lab) lives(ctx context.Context, found []proxy, wanted []string) ([]*life, error) {
	if len(wanted) == 0 {
		return nil, nil
	}
	p, ok := findProxy(found, spinecertName)
	if !ok {
		return nil, fmt.Errorf("measure many slots: %s is missing", spinecertName)
	}
	var out []*life
	var problems []error
	crowds := map[int]*crowd{}
	for _, name := range wanted {
		v := &living{lab: l, daemon: p, crowds: crowds, out: &life{load: firstWords("/proc/loadavg", 3)}}
		kind := livesOf()[slices.IndexFunc(livesOf(), func(k lifeKind) bool { return k.name == name })]
		v.out.title = kind.title
		if err := kind.take(v, ctx); err != nil {
			problems = append(problems, fmt.Errorf("measure %s: %w", name, err))
		}
		out = append(out, v.out)
		if ctx.Err() != nil {
			break
		}
	}
	return out, errors.Join(problems...)
}

func (v *living) fact(title string, value float64, unit string, target float64, places int) {
	fmt.Fprintf(v.progress, "%-60s %s\n", title, amount(value, places, unit))
	v.out.facts = append(v.out.facts, fact{title, value, unit, target, places})
}

// section renders the figures.
func (l *life) section(b *strings.Builder) {
	fmt.Fprintf(b, "Load average before: %s.\n\n", l.load)
	factTable(b, l.facts)
}

// starts measures starts until READY, as systemd would hear it.
func (v *living) starts(ctx context.Context) error {
	for _, n := range []int{tenSlots, v.sizes.slots} {
		c, err := v.crowd(ctx, n)
		if err != nil {
			return err
		}
		for _, what := range []string{cold, warm} { // the last of the cold ones leaves what the warm ones find
			if err := v.startsOf(ctx, c, what); err != nil {
				return fmt.Errorf("%d slots, %s: %w", n, what, err)
			}
		}
	}
	return nil
}

// startsOf measures starts of one kind.
func (v *living) startsOf(ctx context.Context, c *crowd, what string) error {
	unit, per, target, turns, places := "ms", time.Millisecond, 200.0, v.sizes.starts, 0
	if c.slots > tenSlots {
		unit, per, target, turns, places = "s", time.Second, 10, v.sizes.longStarts, 2
	}
	var took []float64
	var last begun
	for i := range turns {
		if what == cold {
			if err := c.forget(); err != nil {
				return err
			}
		}
		b, err := v.startOnce(ctx, c, i == turns-1)
		if err != nil {
			return err
		}
		took, last = append(took, float64(b.ready)/float64(per)), b
	}
	v.fact(fmt.Sprintf("start to READY, %d slots, %s, median of %d", c.slots, what, turns), median(took), unit, target, places)
	v.fact("the same, longest", quantile(took, 1), unit, target, places)
	v.fact("resident memory, at rest", last.rss/1e6, "MB", noTarget, 1)
	v.fact("resident memory, at most", last.peak/1e6, "MB", noTarget, 1)
	return nil
}

const (
	cold = "nothing in the state directory"
	warm = "all in the state directory"
)

// crowd is a site with many slots, ten of which have a tunnel.
type crowd struct {
	site   *site
	daemon proxy // with a configuration for them
	slots  int
	notify *notified
}

// crowd makes the files of n slots, once.
func (v *living) crowd(ctx context.Context, n int) (*crowd, error) {
	if c := v.crowds[n]; c != nil {
		return c, nil
	}
	s, err := v.newSite(tenSlots)
	if err != nil {
		return nil, err
	}
	keys, err := newKeys(ctx, min(n-tenSlots, fewKeys))
	if err != nil {
		return nil, err
	}
	issuer := *v.authority
	issuer.epoch = issuer.epoch.Add(-time.Duration(n) * time.Second) // each is valid from a second after the one before
	var more strings.Builder
	for i := tenSlots; i < n; i++ {
		name := fmt.Sprintf("slot-%d.bench.test", i)
		id, err := issuer.issue(name, keys[i%fewKeys])
		if err != nil {
			return nil, err
		}
		key, err := id.keyPEM()
		if err != nil {
			return nil, err
		}
		base := fmt.Sprintf("s%d", i) // relative: a configuration may have 1 MiB
		for file, data := range map[string][]byte{base + ".crt": id.chainPEM(), base + ".key": key} {
			if err := os.WriteFile(filepath.Join(s.Dir, file), data, 0o600); err != nil {
				return nil, fmt.Errorf("write %q: %w", file, err)
			}
		}
		fmt.Fprintf(&more, "  slot-%d: {files: {certificate: %s.crt, key: %s.key}}\n", i, base, base)
	}
	p := v.daemon
	p.config = strings.Replace(p.config, "tunnels:\n", more.String()+"tunnels:\n", 1)
	p.config = strings.Replace(p.config, "limits: {", "limits: {drain: 20m, ", 1)
	c := &crowd{site: s, daemon: p, slots: n}
	if c.notify, err = listenNotify(filepath.Join(s.Dir, "notify")); err != nil {
		return nil, err
	}
	v.crowds[n] = c
	return c, nil
}

// forget empties the state directory.
func (c *crowd) forget() error {
	state := filepath.Join(c.site.Dir, "state")
	if err := os.RemoveAll(state); err != nil {
		return err
	}
	return os.Mkdir(state, 0o700)
}

// start starts the daemon, and returns once it has said READY, and how long that took.
func (c *crowd) start(ctx context.Context) (*instance, time.Duration, error) {
	config, err := c.site.write(c.daemon)
	if err != nil {
		return nil, 0, err
	}
	c.notify.clear()
	defer os.Unsetenv("NOTIFY_SOCKET")
	if err := os.Setenv("NOTIFY_SOCKET", c.notify.path); err != nil {
		return nil, 0, err
	}
	in, err := c.daemon.spawn(c.site, c.daemon.arguments(config)...)
	if err != nil {
		return nil, 0, err
	}
	at, err := c.notify.ready(ctx, in)
	if err != nil {
		defer in.stop()
		return nil, 0, fmt.Errorf("%w%s", err, in.tail())
	}
	return in, at.Sub(in.begun), nil
}

// begun is one start.
type begun struct {
	ready     time.Duration
	rss, peak float64
}

// startOnce starts a daemon and ends it; the last one not before its state directory holds everything and it was looked at at rest.
func (v *living) startOnce(ctx context.Context, c *crowd, last bool) (b begun, err error) {
	in, took, err := c.start(ctx)
	if err != nil {
		return b, err
	}
	defer in.stop()
	if _, err := visit(ctx, in.addr(), v.client); err != nil {
		return b, fmt.Errorf("after READY: %w%s", err, in.tail())
	}
	if b.ready = took; !last {
		return b, nil
	}
	if err := c.saved(ctx); err != nil {
		return b, err
	}
	if err := sleep(ctx, v.sizes.settle); err != nil {
		return b, err
	}
	m, err := in.memory()
	if err != nil {
		return b, err
	}
	peak, err := statusBytes(in.cmd.Process.Pid, "VmHWM")
	return begun{took, float64(m.rss), float64(peak)}, err
}

// saved waits until what every slot serves is in the state directory.
func (c *crowd) saved(ctx context.Context) error {
	ctx, cancel := context.WithTimeoutCause(ctx, savedLimit, fmt.Errorf("not everything is saved after %s", savedLimit))
	defer cancel()
	client := admin.NewClient(filepath.Join(c.site.Dir, "admin.sock"))
	for {
		status, err := client.Status(ctx)
		done := 0
		for _, s := range status.Slots {
			if s.Generation > 0 && s.Unsaved == "" {
				done++
			}
		}
		kept, _ := filepath.Glob(filepath.Join(c.site.Dir, "state", "slots", "*", "current"))
		if err == nil && done == c.slots && len(kept) == c.slots {
			return nil
		}
		if sleep(ctx, askEvery) != nil {
			return context.Cause(ctx)
		}
	}
}

// notified is the end of the notify socket that is systemd's elsewhere.
type notified struct {
	path string
	conn *net.UnixConn
	mu   sync.Mutex
	said time.Time
	ok   chan struct{} // capacity 1: READY was said
}

// listenNotify listens until the process ends.
func listenNotify(path string) (*notified, error) {
	conn, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return nil, fmt.Errorf("listen for READY: %w", err)
	}
	n := &notified{path: path, conn: conn, ok: make(chan struct{}, 1)}
	go n.listen()
	return n, nil
}

func (n *notified) listen() {
	text, control := make([]byte, 8192), make([]byte, 256)
	for {
		size, rights, _, _, err := n.conn.ReadMsgUnix(text, control)
		if err != nil {
			return
		}
		at := time.Now()
		letGo(control[:rights])
		for line := range strings.Lines(string(text[:size])) {
			if strings.TrimSpace(line) == "READY=1" {
				n.mu.Lock()
				n.said = at
				n.mu.Unlock()
				select {
				case n.ok <- struct{}{}:
				default:
				}
			}
		}
	}
}

// letGo closes descriptors that came with a message: who sent them waits for that (sd_notify_barrier(3)).
func letGo(control []byte) {
	messages, err := unix.ParseSocketControlMessage(control)
	if err != nil {
		return
	}
	for _, m := range messages {
		fds, _ := unix.ParseUnixRights(&m)
		for _, fd := range fds {
			_ = unix.Close(fd)
		}
	}
}

func (n *notified) clear() {
	select {
	case <-n.ok:
	default:
	}
}

// ready returns when READY was said.
func (n *notified) ready(ctx context.Context, in *instance) (time.Time, error) {
	select {
	case <-n.ok:
		n.mu.Lock()
		defer n.mu.Unlock()
		return n.said, nil
	case <-in.ended:
		return time.Time{}, fmt.Errorf("it ended: %s", in.cmd.ProcessState)
	case <-ctx.Done():
		return time.Time{}, context.Cause(ctx)
	case <-time.After(readyLimit):
		return time.Time{}, fmt.Errorf("no READY after %s", readyLimit)
	}
}
