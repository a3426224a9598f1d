package daemon

import (
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
	"golang.org/x/sync/errgroup"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/clock"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/manage"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/tunnel"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// Options are those of Run.
type Options struct {
	ConfigFile string
	Version    string
	Log        io.Writer // where log lines go
	// Clock reads the clocks of the host; nil is clock.Read.
	Clock func() (clock.Reading, error)
}

// stageTimeout bounds how long a start or reload waits for files. What hangs
// longer goes on being waited for by the run loop, and holds up nothing else.
const stageTimeout = 20 * time.Second

// Daemon is one running spinecertd.
type Daemon struct {
	version  string
	file     string
	started  time.Time
	uid      int
	pid      int
	log      *slog.Logger
	level    *slog.LevelVar
	metrics  *metrics
	keeper   *rotate.Keeper
	gate     *tunnel.Gate
	store    *witness
	manager  *manage.Manager
	services *deliver.Manager
	renewed  chan string // slots whose requests are to be looked after
	seen     seen
	roots    roots
	own      ownFindings
	audit    *audit
	events   chan func()    // for the log
	handed   chan func()    // of reviews, which must not wait
	lines    chan auditLine // for the audit file
	beat     atomic.Int64   // when the run loop turned last: nanoseconds since started, which no step of the clock changes
	staged   atomic.Bool    // READY was said
	ready    chan struct{}
	reloads  sync.Mutex    // held by a reload; one at a time
	diffs    chan struct{} // full while a trust diff is made; one at a time
	exams    *examiner     // for doctor
	denied   *budget       // of the lines on what was forbidden
	clock    *clockWatch
	recent   *recent       // refusals of peers
	changed  chan struct{} // full when open connections are to be judged again

	auditRefusals, auditCuts *sharedBudget

	hangups chan os.Signal

	opening  sync.Mutex // held while tunnels are put in force, opened or closed
	stopping bool       // guarded by opening: nothing is put in force any more

	mu      sync.Mutex
	config  *config.Config
	loaded  time.Time
	lastErr error // why a later configuration is not in force
	since   time.Time
	tunnels []*liveTunnel
	byName  map[string]*liveTunnel // of tunnels
	removed []*liveTunnel          // gone from the configuration, but not drained yet
	writers []int
}

// liveTunnel is one tunnel and what it is wired to.
type liveTunnel struct {
	name    string
	config  config.Tunnel
	tunnel  *tunnel.Tunnel
	binding *binding
	tally   *tally
}

// endPatience bounds the wait for what still works when all connections have
// ended: a log that nobody reads, or a disk that does not answer, must not keep
// the process.
const endPatience = 5 * time.Second

// Run runs the daemon until ctx ends or a signal asks it to stop, then drains; a
// second signal ends the draining. The error is config.Problems if the
// configuration is wrong.
func Run(ctx context.Context, o Options) error {
	// A log line to a pipe whose reader is gone fails. Without this it would end
	// the process.
	signal.Ignore(syscall.SIGPIPE)
	c, err := config.Load(o.ConfigFile)
	if err != nil {
		return err
	}
	// From here to the end: left alone, SIGHUP ends the process, also one that
	// still starts or drains.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	dir, err := state.Lock(c.State.Directory, state.Options{})
	if err != nil {
		return err
	}
	defer dir.Close()
	d := newDaemon(o, c, dir, hangups)

	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	return d.run(ctx)
}

func newDaemon(o Options, c *config.Config, dir *state.Directory, hangups chan os.Signal) *Daemon {
	d := &Daemon{
		version: o.Version, file: c.File, started: time.Now(), uid: os.Getuid(), pid: os.Getpid(),
		level: &slog.LevelVar{}, metrics: newMetrics(o.Version), gate: tunnel.NewGate(gateLimits(c.Limits)),
		audit: newAudit(c.State.Directory, c.State.AuditMax), events: make(chan func(), maxEvents), lines: make(chan auditLine, maxUnwritten),
		ready: make(chan struct{}, 1), diffs: make(chan struct{}, 1), hangups: hangups, config: c, store: newWitness(dir), renewed: make(chan string, 256), loaded: time.Now(),
	}
	d.denied, d.recent, d.changed = newBudget(logLines, logWindow), newRecent(maxRecent), make(chan struct{}, 1)
	d.auditRefusals, d.auditCuts = newSharedBudget(auditAllLines, auditAllWindow), newSharedBudget(auditAllLines, auditAllWindow)
	d.handed, d.exams = make(chan func(), maxHanded), newExaminer(d.look)
	d.clock = newClockWatch(o.Clock, d.store.last.newest)
	d.clock.largest.Store(int64(c.ClockMaxStep))
	d.log = newLog(o.Log, c, d.level)
	d.audit.lost = d.metrics.lostEvents.Inc
	d.keeper = rotate.New(rotate.Options{Store: d.store, CRLs: dir, Events: d.onRotate, ClockSuspect: d.clockSuspect,
		Beat: func() { d.beat.Store(int64(time.Since(d.started))) }})
	d.manager, d.services = newManager(d), newServices(d)
	return d
}

func newLog(w io.Writer, c *config.Config, level *slog.LevelVar) *slog.Logger {
	level.Set(c.LogLevel)
	options := &slog.HandlerOptions{Level: level}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// run starts everything in order and stops it in the reverse one.
func (d *Daemon) run(ctx context.Context) error {
	// Log, audit and run loop outlive ctx: what happens while draining is told too.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { doWork(background, d.events); return nil })
	group.Go(func() error { doWork(background, d.handed); return nil })
	group.Go(func() error { d.writeAudit(background); return nil })
	d.lookAtClock() // before anything is judged
	group.Go(func() error { _ = d.keeper.Run(background); return nil })
	group.Go(func() error { d.keepClock(background); return nil })
	group.Go(func() error { d.keepReviewing(background); return nil })
	defer func() {
		stopBackground()
		ended := make(chan struct{})
		go func() { _ = group.Wait(); close(ended) }()
		select {
		case <-ended:
		case <-time.After(endPatience):
		}
	}()

	socket, err := listenAdmin(ctx, d.config.Admin)
	if err != nil {
		return err
	}
	defer socket.Close()
	web, err := d.listenHTTP(ctx)
	if err != nil {
		return err
	}
	if err := d.store.Trouble(); err != nil {
		d.record1("state_trouble", slog.LevelError, "state directory is not as it should be; it is used as it is", slog.String("error", err.Error()), slog.String("hint", pki.Hint(err)))
	}
	d.record1("starting", slog.LevelInfo, "starting", slog.String("version", d.version), slog.String("config", d.file))
	if err := d.startTunnels(ctx); err != nil {
		return err
	}
	serve, stopServing := context.WithCancel(background)
	defer stopServing()
	group.Go(func() error { d.keepReadiness(serve); return nil })
	group.Go(func() error { d.exams.run(serve); return nil })
	group.Go(func() error { return serveHTTP(serve, admin.NewServer(d.backend()), socket) })
	if web != nil {
		group.Go(func() error { return serveHTTP(serve, d.webServer(), web) })
	}
	group.Go(func() error { d.watchdog(serve); return nil })
	group.Go(func() error { d.keepRequests(serve); return nil })
	group.Go(func() error { return d.newInbox().Run(serve) })
	group.Go(func() error { d.giveBackMemory(serve); return nil })
	if ctx.Err() == nil { // else it was asked to stop while it started
		d.staged.Store(true)
		d.notify(sd.SdNotifyReady + "\nSTATUS=" + d.summary())
		d.record1("ready", slog.LevelInfo, d.summary())
		group.Go(func() error { d.answerHangups(ctx); return nil })
		group.Go(func() error { return d.services.Run(serve) })
	}
	<-ctx.Done()
	return d.shutdown(context.WithoutCancel(ctx))
}

// answerHangups reloads on SIGHUP until ctx ends. Nothing waits for it: a
// configuration on a disk that does not answer must not keep the daemon from
// stopping.
func (d *Daemon) answerHangups(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.hangups:
			_, _ = d.reload(ctx, actor{UID: d.uid, PID: d.pid, Via: "signal"}) // logged and shown in status; a signal gets no answer
		}
	}
}

// startTunnels stages all material, then opens what is ready.
func (d *Daemon) startTunnels(ctx context.Context) error {
	if err := d.plan(d.config).Check(); err != nil {
		return err
	}
	prepared, err := d.prepareTunnels(d.config)
	if err != nil {
		return err
	}
	d.stage(ctx, d.config)
	if ctx.Err() != nil {
		abort(prepared)
		return nil //nolint:nilerr // asked to stop meanwhile, which is no failure
	}
	return d.commit(d.config, prepared)
}

// stage gives rotate the plan and waits, within reason, until all was looked at.
func (d *Daemon) stage(ctx context.Context, c *config.Config) {
	bounded, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	if err := d.keeper.Apply(bounded, d.plan(c)); err != nil && ctx.Err() == nil {
		d.record1("stage_slow", slog.LevelError, "some files could not be read in time; they are still being waited for", slog.String("error", err.Error()))
	}
}

// shutdown drains: nothing new is accepted, what is open may end by itself for a while.
func (d *Daemon) shutdown(ctx context.Context) error {
	d.notify(sd.SdNotifyStopping)
	d.opening.Lock()
	d.stopping = true
	d.opening.Unlock()
	d.mu.Lock()
	tunnels, patience := slices.Concat(d.tunnels, d.removed), d.config.Limits.Drain
	d.mu.Unlock()
	d.record1("stopping", slog.LevelInfo, "stopping", slog.Duration("drain", patience))
	impatient, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	drained := d.drain(impatient, tunnels, patience)
	d.record1("stopped", slog.LevelInfo, "stopped", slog.Int("connections_cut", drained))
	return nil
}

func (d *Daemon) drain(ctx context.Context, tunnels []*liveTunnel, patience time.Duration) int {
	bounded, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	var group sync.WaitGroup
	var cut atomic.Int64
	for _, t := range tunnels {
		group.Go(func() { cut.Add(int64(t.tunnel.Drain(bounded))) })
	}
	group.Wait()
	return int(cut.Load())
}

// keepReadiness opens and closes listeners as slots get or lose what they serve.
func (d *Daemon) keepReadiness(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-d.ready:
			d.setReadiness()
		}
	}
}

func (d *Daemon) wakeReadiness() {
	select {
	case d.ready <- struct{}{}:
	default:
	}
}

func (d *Daemon) setReadiness() {
	d.opening.Lock()
	d.setReadinessLocked()
	d.opening.Unlock()
	if d.staged.Load() {
		d.notify("STATUS=" + d.summary())
	}
}

// setReadinessLocked is held by d.opening, so that what it saw of a slot is still
// so when a tunnel that a reload gave another slot is told.
func (d *Daemon) setReadinessLocked() {
	for _, t := range d.liveTunnels() {
		s := d.keeper.Slot(t.config.Slot)
		t.tunnel.SetReady(s != nil && s.Snapshot() != nil)
	}
}

func (d *Daemon) liveTunnels() []*liveTunnel {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.tunnels
}

// summary is one sentence for systemd and the log.
func (d *Daemon) summary() string {
	ready, all := 0, d.keeper.Slots()
	missing := ""
	var next time.Time
	for _, s := range all {
		snap := s.Snapshot()
		if snap == nil {
			missing += " " + s.Name()
			continue
		}
		ready++
		if next.IsZero() || snap.Generation.NotAfter.Before(next) {
			next = snap.Generation.NotAfter
		}
	}
	text := fmt.Sprintf("%d of %d slots ready", ready, len(all))
	if missing != "" {
		text += "; not ready:" + missing
	}
	if !next.IsZero() {
		text += "; next expiry " + next.UTC().Format(time.DateOnly)
	}
	return text
}

// record1 writes one log line of the daemon itself.
func (d *Daemon) record1(event string, level slog.Level, text string, attrs ...slog.Attr) {
	all := append([]slog.Attr{slog.String("event", event)}, attrs...)
	d.post(func() { d.log.LogAttrs(context.Background(), level, text, all...) })
}

// notify tells systemd, if it runs us. A failure has nobody to be told to.
func (d *Daemon) notify(state string) { _, _ = sd.SdNotify(false, state) }

// watchdog tells systemd that the run loop turns. A loop that hangs is not told.
func (d *Daemon) watchdog(ctx context.Context) {
	interval, err := sd.SdWatchdogEnabled(false)
	if err != nil || interval <= 0 {
		return
	}
	t := time.NewTicker(interval / 3)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case now := <-t.C:
			if d.turning(now, interval) {
				d.notify(sd.SdNotifyWatchdog)
			}
		}
	}
}

func (d *Daemon) turning(now time.Time, within time.Duration) bool {
	return now.Sub(d.started)-time.Duration(d.beat.Load()) < within
}
