package deliver

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/durable"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/trust"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// rig is a slot with files, and a Manager for services of it.
type rig struct {
	*testing.T
	dir     string
	root    *testpki.Authority
	sub     *testpki.Authority
	keeper  *rotate.Keeper
	records *records
	manager *Manager
	disk    durable.Disk
	ended   func()

	mu     sync.Mutex
	events []Event
}

func newRig(t *testing.T) *rig {
	t.Parallel()
	r := &rig{T: t, dir: t.TempDir(), root: testpki.NewRoot(t), records: &records{}}
	r.sub = r.root.SubCA(t, testpki.Name("Test Authentication G2"))
	r.write("trust.pem", testpki.EncodeCerts(r.root.Cert, r.sub.Cert), 0o644)
	r.rotate()
	r.keeper = rotate.New(rotate.Options{Events: func(e rotate.Event) {
		if m := r.live(); m != nil {
			switch {
			case e.Slot != "":
				m.WakeSlot(e.Slot)
			case e.Environment != "":
				m.WakeEnvironment(e.Environment)
			}
		}
	}})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = r.keeper.Run(ctx) }()
	t.Cleanup(func() { r.stop(); cancel(); <-done })
	err := r.keeper.Apply(ctx, rotate.Plan{
		Environments: []rotate.EnvironmentConfig{{Name: "live", Trust: []string{r.path("trust.pem")}, Revocation: trust.Off, Poll: 50 * time.Millisecond}},
		Slots:        []rotate.SlotConfig{{Name: "pcs", Environment: "live", Files: rotate.Files{Certificate: r.path("pcs.crt"), Key: r.path("pcs.key")}, Poll: 50 * time.Millisecond, Settle: time.Second}},
	})
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func (r *rig) live() *Manager {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.manager
}

func (r *rig) path(name string) string { return filepath.Join(r.dir, name) }

func (r *rig) write(name string, data []byte, mode fs.FileMode) {
	r.Helper()
	if err := durable.Replace(r.path(name), data, mode); err != nil {
		r.Fatal(err)
	}
}

// rotate writes a new pair for the slot and returns its leaf's fingerprint.
func (r *rig) rotate() string {
	r.Helper()
	leaf := r.sub.Issue(r.T, testpki.DNS("pcs.thirdparty.nhs.uk"))
	r.write("pcs.key", testpki.EncodeKey(leaf.Key), 0o600)
	r.write("pcs.crt", testpki.EncodeCerts(leaf.Cert, r.sub.Cert), 0o644)
	return pki.Fingerprint(leaf.Cert)
}

// start starts a Manager for services; what ran before is stopped.
func (r *rig) start(services ...config.Service) {
	r.Helper()
	r.stop()
	m := New(Options{Records: r.records, Slot: r.keeper.Slot, Events: r.event, Disk: r.disk, Poll: 50 * time.Millisecond, Look: 200 * time.Millisecond,
		CRL: func(string, *trust.CRL) ([]byte, error) { return nil, errors.New("no lists here") }})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	m.Apply(services)
	go func() { defer close(done); _ = m.Run(ctx) }()
	r.mu.Lock()
	r.manager = m
	r.ended = func() { cancel(); <-done }
	r.mu.Unlock()
}

func (r *rig) stop() {
	r.mu.Lock()
	ended := r.ended
	r.manager, r.ended = nil, nil
	r.mu.Unlock()
	if ended != nil {
		ended()
	}
}

func (r *rig) event(e Event) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.events = append(r.events, e)
}

// lately are the last events.
func (r *rig) lately() []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.events[max(len(r.events)-3, 0):]
}

func (r *rig) told(kind EventKind) []Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	var out []Event
	for _, e := range r.events {
		if e.Kind == kind {
			out = append(out, e)
		}
	}
	return out
}

func (r *rig) status(name string) Status {
	r.Helper()
	for _, st := range r.live().Status() {
		if st.Config.Name == name {
			return st
		}
	}
	r.Fatalf("there is no service %q", name)
	return Status{}
}

// until waits for something that must come.
func (r *rig) until(what string, ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			data, _ := json.MarshalIndent(r.live().Status(), "", "  ")
			r.Fatalf("waited in vain: %s\n%s\n%v", what, data, r.lately())
		}
	}
}

// synced waits until a service serves a leaf, and says so.
func (r *rig) synced(name, leaf string) {
	r.Helper()
	r.until(name+" is in sync with "+leaf, func() bool {
		st := r.status(name)
		return st.State == InSync && st.Proved.Leaf == leaf && st.Delivered.Leaf == leaf && st.Desired.Leaf == leaf
	})
}

// records is a store that can be full.
type records struct {
	mu   sync.Mutex
	kept map[string][]byte
	fail error
	ask  func() error // before each write
}

func (k *records) ReadService(name string) ([]byte, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.kept[name], nil
}

func (k *records) WriteService(name string, data []byte) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail != nil {
		return k.fail
	}
	if k.ask != nil {
		if err := k.ask(); err != nil {
			return err
		}
	}
	if k.kept == nil {
		k.kept = map[string][]byte{}
	}
	k.kept[name] = slices.Clone(data)
	return nil
}

func (k *records) refuse(err error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.fail = err
}

func (k *records) before(ask func() error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.ask = ask
}

// program is a service: it serves what it read when it was started or told, over TLS.
// What it does when it is told can be changed.
type program struct {
	*rig
	dir  string
	flag string // the file that a reload makes

	mu       sync.Mutex
	cert     *tls.Certificate
	listener net.Listener
	address  string
	mood     mood
}

// mood is how a program takes a reload.
type mood int

const (
	obeys  mood = iota
	sticks      // keeps what it has
	dies
	picky // does not take anything new, and dies
)

// newProgram makes one that does not run yet.
func newProgram(r *rig, name string) *program {
	r.Helper()
	p := &program{rig: r, dir: r.path("etc-" + name), flag: r.path(name + ".reload")}
	if err := os.Mkdir(p.dir, 0o755); err != nil {
		r.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		r.Fatal(err)
	}
	p.address = l.Addr().String()
	_ = l.Close()
	r.Cleanup(p.kill)
	return p
}

// service is its configuration.
func (p *program) service(name string, change ...func(*config.Service)) config.Service {
	c := config.Service{
		Name: name, Slot: "pcs", Directory: p.dir,
		Files:  []config.ServiceFile{{Format: "fullchain", Name: "fullchain.pem", Mode: 0o644}, {Format: "key", Name: "key.pem", Mode: 0o600}},
		Reload: config.Reload{Kind: config.ReloadExec, Exec: []string{"/usr/bin/touch", p.flag}, Timeout: 10 * time.Second},
		Probes: []config.Probe{{Address: p.address, Protocol: config.ProbeTLS, Stable: 2, Within: 2 * time.Second}},
	}
	for _, f := range change {
		f(&c)
	}
	return c
}

func (p *program) read() error {
	cert, err := tls.LoadX509KeyPair(filepath.Join(p.dir, "current", "fullchain.pem"), filepath.Join(p.dir, "current", "key.pem"))
	if err != nil {
		return err
	}
	p.cert = &cert
	return nil
}

// run starts it with what is there, be it nothing: then it waits for the first reload.
func (p *program) run() {
	p.Helper()
	var err error
	if p.listener, err = net.Listen("tcp", p.address); err != nil {
		p.Fatal(err)
	}
	_ = p.read()
	go p.serve(p.listener)
}

func (p *program) serve(l net.Listener) {
	conf := &tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
		p.mu.Lock()
		defer p.mu.Unlock()
		if p.cert == nil {
			return nil, errors.New("nothing was read yet")
		}
		return p.cert, nil
	}}
	for {
		c, err := l.Accept()
		if err != nil {
			return
		}
		if _, err := os.Stat(p.flag); err == nil {
			_ = os.Remove(p.flag)
			p.mu.Lock()
			switch p.mood {
			case obeys:
				_ = p.read()
			case sticks:
			case dies, picky:
				_ = l.Close()
				_ = c.Close()
				p.mu.Unlock()
				return
			}
			p.mu.Unlock()
		}
		go func() {
			defer c.Close()
			_ = c.SetDeadline(time.Now().Add(5 * time.Second))
			t := tls.Server(c, conf)
			_ = t.Handshake()
			_, _ = t.Read(make([]byte, 1))
		}()
	}
}

func (p *program) kill() {
	if p.listener != nil {
		_ = p.listener.Close()
	}
}

func (p *program) is(m mood) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.mood = m
}

// serves returns the fingerprint of what a client sees.
func (p *program) serves() string {
	p.Helper()
	c, err := tls.Dial("tcp", p.address, &tls.Config{InsecureSkipVerify: true})
	if err != nil {
		return err.Error()
	}
	defer c.Close()
	return pki.Fingerprint(c.ConnectionState().PeerCertificates[0])
}

// onDisk is the leaf that is in place.
func (p *program) onDisk() string {
	data, err := os.ReadFile(filepath.Join(p.dir, "current", "fullchain.pem"))
	if err != nil {
		return err.Error()
	}
	certs, err := pki.ParseCertificates(data)
	if err != nil {
		return err.Error()
	}
	return pki.Fingerprint(certs[0])
}

func leafOf(s *rotate.Snapshot) string { return pki.Fingerprint(s.Generation.Identity.Leaf()) }

// until2 is until without a Manager.
func (r *rig) until2(ok func() bool) {
	r.Helper()
	for deadline := time.Now().Add(20 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			r.Fatal("waited in vain")
		}
	}
}

// serve2 has it serve something that was not delivered.
func (p *program) serve2(l *testpki.Leaf) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.cert = &tls.Certificate{Certificate: [][]byte{l.Cert.Raw}, PrivateKey: l.Key}
}
