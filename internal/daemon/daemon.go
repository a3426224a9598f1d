package daemon

import (
	"context"
	"io"
	"log/slog"
	"net"
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
	"github.com/spinecert/spinecert/internal/alert/sink"
	"github.com/spinecert/spinecert/internal/clock"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/handover"
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
	memories memories // of generations, for timelines
	ends     rememberedEnds
	own      ownFindings
	alerts   *alerts
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

	program    string                // where the program lies, for an upgrade
	activated  map[string][]*os.File // listening sockets that systemd made, by name
	before     *handover.Predecessor // the process that this one takes over from; nil for a start of its own
	running    context.Context       // of run: ends when the daemon is asked to stop
	chores     chores
	changes    changes
	socket     net.Listener        // the admin API's
	web        net.Listener        // of admin.http; nil if there is none
	pages      pages               // what is served there
	succeeded  chan struct{}       // closed when another process has taken over
	successor  *handover.Successor // set before succeeded is closed
	handedOver atomic.Bool         // another process writes, and is the one that systemd listens to

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
	before, err := handover.Inherited(ctx)
	if err != nil {
		return err
	}
	err = runAfter(ctx, o, before)
	if err != nil && before != nil {
		_ = before.Refuse(refusalOf(err)) // it may know, or be gone
	}
	return err
}

// runAfter is Run in the place of another process, or of none.
func runAfter(ctx context.Context, o Options, before *handover.Predecessor) error {
	// From the beginning to the end: left alone, SIGHUP ends the process, also one that
	// still starts or drains.
	hangups := make(chan os.Signal, 1)
	signal.Notify(hangups, syscall.SIGHUP)
	defer signal.Stop(hangups)
	c, err := config.Load(o.ConfigFile)
	if err != nil {
		return err
	}
	if _, err := sinksOf(c, sink.Options{}); err != nil {
		return err // before anything is locked
	}
	ctx, stop := signal.NotifyContext(ctx, syscall.SIGTERM, syscall.SIGINT)
	defer stop()
	dir, err := lockState(ctx, o, c, before)
	if err != nil {
		return err
	}
	defer dir.Close()
	d := newDaemon(o, c, dir, hangups)
	if err := d.takeSockets(before); err != nil {
		return err
	}
	return d.run(ctx)
}

func newDaemon(o Options, c *config.Config, dir *state.Directory, hangups chan os.Signal) *Daemon {
	d := &Daemon{
		version: o.Version, file: c.File, started: time.Now(), uid: os.Getuid(), pid: os.Getpid(),
		level: &slog.LevelVar{}, metrics: newMetrics(o.Version), gate: tunnel.NewGate(gateLimits(c.Limits)),
		audit: newAudit(c.State.Directory, c.State.AuditMax), events: make(chan func(), maxEvents), lines: make(chan auditLine, maxUnwritten),
		ready: make(chan struct{}, 1), diffs: make(chan struct{}, 1), hangups: hangups, config: c, store: newWitness(dir), renewed: make(chan string, 256), loaded: time.Now(),
	}
	d.program, d.succeeded = programPath(), make(chan struct{})
	d.denied, d.recent, d.changed = newBudget(logLines, logWindow), newRecent(maxRecent), make(chan struct{}, 1)
	d.auditRefusals, d.auditCuts = newSharedBudget(auditAllLines, auditAllWindow), newSharedBudget(auditAllLines, auditAllWindow)
	d.handed, d.exams = make(chan func(), maxHanded), newExaminer(d.look)
	d.clock = newClockWatch(o.Clock, d.store.last.newest)
	d.clock.largest.Store(int64(c.ClockMaxStep))
	d.log = newLog(o.Log, c, d.level, d.metrics.lostEvents.Inc)
	d.audit.lost, d.audit.shared = d.metrics.lostEvents.Inc, d.handedOver.Load
	d.keeper = rotate.New(rotate.Options{Store: d.store, CRLs: lists{dir, d.handedOver.Load}, Events: d.onRotate, ClockSuspect: d.clockSuspect,
		Beat: func() { d.beat.Store(int64(time.Since(d.started))) }})
	d.manager, d.services, d.alerts = newManager(d), newServices(d), newAlerts(d, c)
	d.pages.peers = newPagePeers(d, c)
	return d
}

// run starts everything in order and stops it in the reverse one.
func (d *Daemon) run(ctx context.Context) error {
	d.running = ctx
	// Log, audit and run loop outlive ctx: what happens while draining is told too.
	background, stopBackground := context.WithCancel(context.WithoutCancel(ctx))
	var group errgroup.Group
	group.Go(func() error { doWork(background, d.events); return nil })
	group.Go(func() error { doWork(background, d.handed); return nil })
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
			d.closeLog()
		case <-time.After(endPatience):
		}
	}()
	if err := d.listen(ctx); err != nil {
		return err
	}
	defer d.socket.Close()
	if err := d.startTunnels(ctx, func() {
		group.Go(func() error { d.writeAudit(background); return nil }) // not before the directory is this process's
	}); err != nil {
		return err
	}
	serve, stopServing := context.WithCancel(background)
	defer stopServing()
	asked, stopAsking := context.WithCancel(ctx)
	defer stopAsking()
	group.Go(func() error { d.keepReadiness(serve); return nil })
	group.Go(func() error { d.exams.run(serve); return nil })
	group.Go(func() error { return serveHTTP(serve, admin.NewServer(d.backend()), d.socket) })
	if d.web != nil {
		group.Go(func() error { return d.serveWeb(serve) })
	}
	group.Go(func() error { d.watchdog(serve); return nil })
	group.Go(func() error { d.keepRequests(serve); return nil })
	group.Go(func() error { d.giveBackMemory(serve); return nil })
	if ctx.Err() == nil { // else it was asked to stop while it started
		d.sayReady()
		group.Go(func() error { d.answerHangups(asked); return nil })
		d.chores.start(serve, d.services.Run, d.alerts.Run, func(ctx context.Context) error { return d.newInbox().Run(ctx) })
		group.Go(func() error { <-serve.Done(); d.chores.wait(); return nil })
	}
	select {
	case <-ctx.Done():
	case <-d.succeeded:
		stopServing() // the new process answers
		stopAsking()
		return d.leave(ctx)
	}
	return d.shutdown(context.WithoutCancel(ctx))
}

// listen opens what the daemon is asked and watched by, and says that it starts.
func (d *Daemon) listen(ctx context.Context) error {
	if err := d.listenAdmin(ctx); err != nil {
		return err
	}
	if err := d.listenHTTP(ctx); err != nil {
		return err
	}
	d.record1("starting", slog.LevelInfo, "starting", slog.String("version", d.version), slog.String("config", d.file))
	return nil
}

// tellTrouble says what of the state directory could not be made ready.
func (d *Daemon) tellTrouble() {
	if err := d.store.Trouble(); err != nil {
		d.record1("state_trouble", slog.LevelError, "state directory is not as it should be; it is used as it is", slog.String("error", err.Error()), slog.String("hint", pki.Hint(err)))
	}
}

// sayReady says that connections are accepted.
func (d *Daemon) sayReady() {
	d.staged.Store(true)
	d.notify(sd.SdNotifyReady + "\nSTATUS=" + d.summary())
	level := slog.LevelInfo
	if slices.ContainsFunc(d.keeper.Slots(), func(s *rotate.Slot) bool { return s.Snapshot() == nil }) {
		level = slog.LevelWarn
	}
	d.record1("ready", level, d.summary())
	if d.before != nil {
		_ = d.before.Serving() // if it is gone, nobody waits
		d.tellConfiguration(d.currentConfig())
	}
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
			if d.handedOver.Load() {
				d.successor.Hangup() // it had read the configuration already
			}
		}
	}
}

// startTunnels stages all material, then opens what is ready. In between, from the call of owned on, this process is
// the one that writes.
func (d *Daemon) startTunnels(ctx context.Context, owned func()) error {
	if err := d.plan(d.config).Check(); err != nil {
		return err
	}
	sinks, err := d.sinks(d.config)
	if err != nil {
		return err
	}
	own := func() { d.tellTrouble(); owned() }
	if d.before == nil {
		own()
	}
	prepared, err := d.prepareTunnels(d.config)
	if err != nil {
		return err
	}
	d.stage(ctx, d.config)
	if d.before != nil {
		if err := d.takeOver(ctx); err != nil {
			abort(prepared)
			return err
		}
		own()
		defer d.gate.CloseInherited()
	}
	if ctx.Err() != nil {
		abort(prepared)
		return nil // asked to stop meanwhile, which is no failure
	}
	return d.commit(d.config, prepared, sinks)
}

// stage gives rotate the plan and waits, within reason, until all was looked at.
func (d *Daemon) stage(ctx context.Context, c *config.Config) {
	bounded, cancel := context.WithTimeout(ctx, stageTimeout)
	defer cancel()
	if err := d.keeper.Apply(bounded, d.plan(c)); err != nil && ctx.Err() == nil {
		d.record1("stage_slow", slog.LevelError, "some files could not be read in time; they are still being waited for", slog.String("error", err.Error()))
	}
}

// record1 writes one log line of the daemon itself.
func (d *Daemon) record1(event string, level slog.Level, text string, attrs ...slog.Attr) {
	all := append([]slog.Attr{slog.String("event", event)}, attrs...)
	d.post(func() { d.log.LogAttrs(context.Background(), level, text, all...) })
}
