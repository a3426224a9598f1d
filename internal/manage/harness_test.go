package manage

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// desk is a host with two environments and managed slots, and the authority that
// answers its requests.
type desk struct {
	t       *testing.T
	dir     string
	root    *testpki.Authority
	sub     *testpki.Authority // of environment live
	other   *testpki.Authority // of environment int
	config  *config.Config
	store   *state.Directory
	keeper  *rotate.Keeper
	manager *Manager
	stop    func()
	fault   func(op, name string) error

	mu     sync.Mutex
	events []Event
}

const (
	fqdn  = "pcs.thirdparty.nhs.uk"
	never = time.Hour
)

func newDesk(t *testing.T) *desk {
	t.Helper()
	d := &desk{t: t, dir: t.TempDir(), root: testpki.NewRoot(t, testpki.Name("Live Root"))}
	d.sub = d.root.SubCA(t, testpki.Name("Live Authentication"))
	d.other = testpki.NewRoot(t, testpki.Name("Int Root")).SubCA(t, testpki.Name("Int Authentication"))
	d.trust(d.sub.BundlePEM())
	testpki.WriteFile(t, d.path("int.pem"), d.other.BundlePEM(), 0o644)
	managed := func() *config.Managed {
		return &config.Managed{Key: "ecdsa-p256", Issuer: "manual", Prepare: 120 * 24 * time.Hour}
	}
	d.config = &config.Config{
		Environments: []config.Environment{
			{Name: "live", Profile: "private", Trust: []string{d.path("live.pem")}, Revocation: "off"},
			{Name: "int", Profile: "private", Trust: []string{d.path("int.pem")}, Revocation: "off"},
		},
		Slots: []config.Slot{
			{Name: "pcs", Environment: "live", FQDN: fqdn, Managed: managed(), Poll: never},
			{Name: "ldap", Environment: "live", FQDN: "ldap.thirdparty.nhs.uk", Managed: managed(), Poll: never},
			{Name: "files", Environment: "live", Files: config.Files{Certificate: d.path("f.crt"), Key: d.path("f.key")}, Poll: never},
		},
		State:        config.State{Directory: d.path("state"), KeepGenerations: 5},
		Organisation: config.Organisation{Name: "Example Practice", ODS: "T99999", Contact: "A. Person"},
	}
	d.start()
	t.Cleanup(func() { d.stop() })
	return d
}

func (d *desk) path(name string) string { return filepath.Join(d.dir, name) }

func (d *desk) trust(pem []byte) { testpki.WriteFile(d.t, d.path("live.pem"), pem, 0o644) }

// start takes the lock and runs the keeper, as a daemon that starts does.
func (d *desk) start() {
	d.t.Helper()
	var err error
	d.store, err = state.Lock(d.path("state"), state.Options{Disk: durable.Disk{Fault: func(op, name string) error {
		d.mu.Lock()
		fault := d.fault
		d.mu.Unlock()
		if fault != nil {
			return fault(op, name)
		}
		return nil
	}}})
	d.must(err)
	d.keeper = rotate.New(rotate.Options{Store: d.store})
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- d.keeper.Run(ctx) }()
	d.stop = func() { cancel(); <-ended; d.store.Close(); d.stop = func() {} }
	d.must(d.keeper.Apply(d.context(), Plan(d.config, d.store)))
	d.manager = New(Config{Directory: d.store, Keeper: d.keeper, Configuration: func() *config.Config { return d.config }, Tell: func(e Event) {
		d.mu.Lock()
		defer d.mu.Unlock()
		d.events = append(d.events, e)
	}})
}

// restart is a crash and a start. Nothing is finished before.
func (d *desk) restart() {
	d.t.Helper()
	d.stop()
	d.start()
}

func (d *desk) breakDisk(fault func(op, name string) error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.fault = fault
}

func (d *desk) context() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	d.t.Cleanup(cancel)
	return ctx
}

func (d *desk) must(err error) {
	d.t.Helper()
	if err != nil {
		d.t.Fatal(err)
	}
}

// kinds returns the events since the last call, and forgets them.
func (d *desk) kinds() []EventKind {
	d.mu.Lock()
	defer d.mu.Unlock()
	var out []EventKind
	for _, e := range d.events {
		out = append(out, e.Kind)
	}
	d.events = nil
	return out
}

func (d *desk) told(want ...EventKind) {
	d.t.Helper()
	if got := d.kinds(); !slices.Equal(got, want) {
		d.t.Errorf("events %q, want %q", got, want)
	}
}

// ask makes a request for slot pcs.
func (d *desk) ask() state.Request {
	d.t.Helper()
	made, err := d.manager.NewRequest(d.context(), Order{Slot: "pcs", By: "uid 0"})
	d.must(err)
	return made.Request
}

// answer issues a certificate for a request.
func (d *desk) answer(by *testpki.Authority, r state.Request, opts ...testpki.Option) *testpki.Leaf {
	d.t.Helper()
	key, err := d.store.RequestKey(r.Slot, r.ID)
	d.must(err)
	return by.Issue(d.t, append([]testpki.Option{testpki.DNS(r.FQDN), testpki.Key(key)}, opts...)...)
}

func (d *desk) take(o ImportOrder, parts ...[]byte) (Imported, error) {
	d.t.Helper()
	o.Files = append(o.Files, File{Name: "answer.txt", Data: slices.Concat(parts...)})
	return d.manager.Import(d.context(), o)
}

// serve has slot pcs serve a certificate, the usual way.
func (d *desk) serve(opts ...testpki.Option) Imported {
	d.t.Helper()
	r := d.ask()
	done, err := d.take(ImportOrder{}, d.answer(d.sub, r, opts...).CertPEM())
	d.must(err)
	if done.Outcome != InForce || done.Request != r.ID {
		d.t.Fatalf("imported %+v", done)
	}
	return done
}

// open returns the IDs of the requests that are on the disk.
func (d *desk) open() []string {
	d.t.Helper()
	all, err := d.store.Requests("")
	d.must(err)
	var out []string
	for _, r := range all {
		out = append(out, r.ID)
	}
	return out
}

func (d *desk) serving() *rotate.Generation {
	snap := d.keeper.Slot("pcs").Snapshot()
	if snap == nil {
		return nil
	}
	return snap.Generation
}

// no wants an Error.
func (d *desk) no(err error, kind Kind, reason, say string) {
	d.t.Helper()
	var e *Error
	if !errors.As(err, &e) {
		d.t.Fatalf("error %v, want one of kind %s", err, kind)
	}
	if e.Kind != kind || e.Reason != reason || !strings.Contains(e.Error(), say) {
		d.t.Errorf("error %s %q: %v, want %s %q: ...%s", e.Kind, e.Reason, e, kind, reason, say)
	}
	if pki.Hint(err) == "" {
		d.t.Errorf("%v: no next action", err)
	}
}

func (d *desk) until(what string, ok func() bool) {
	d.t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			d.t.Fatalf("never: %s", what)
		}
	}
}
