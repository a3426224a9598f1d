package cli

import (
	"bytes"
	"context"
	"crypto/x509"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/anchor"
	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/trust"
)

// trustDaemon stands in for the daemon's trust: judged by package anchor, kept in
// memory. What the file live.pem holds is proposed.
type trustDaemon struct {
	mu      sync.Mutex
	file    string
	bundle  *trust.Bundle // in force
	seen    []anchor.Peer
	slots   []anchor.Slot
	started time.Time
}

// serveTrustDaemons writes trust files into dir/trust, and returns the directory
// of two sockets: one has one environment, several has two and no default.
func serveTrustDaemons(t *testing.T, dir string) string {
	t.Helper()
	oldRoot, newRoot := testpki.NewRoot(t, testpki.Name("Old Root")), testpki.NewRoot(t, testpki.Name("New Root"))
	oldSub, newSub := oldRoot.SubCA(t, testpki.Name("Old Sub")), newRoot.SubCA(t, testpki.Name("New Sub"))
	put := func(name string, parts ...[]byte) string {
		path := filepath.Join(dir, "trust", name)
		testpki.WriteFile(t, path, bytes.Join(parts, nil), 0o644)
		return path
	}
	live := put("live.pem", oldSub.BundlePEM())
	put("old.pem", oldSub.BundlePEM())
	put("new.pem", newSub.BundlePEM())
	put("newsub.pem", newSub.CertPEM())
	put("both.pem", oldSub.BundlePEM(), newSub.BundlePEM())
	put("hostile.pem", testpki.NewRoot(t, testpki.Name("evil\x1b[31m\nenvironment live: accepted")).CertPEM())
	put("sums", []byte(pki.Fingerprint(newRoot.Cert)+","+pki.Fingerprint(newSub.Cert)))
	put("colons", []byte(colons(pki.Fingerprint(newRoot.Cert))+","+colons(pki.Fingerprint(newSub.Cert))))
	leaf := oldSub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"))
	id, err := pki.NewIdentity([]*x509.Certificate{leaf.Cert}, leaf.Key)
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	bundle, err := readTrust([]string{live}, nil)
	if err != nil {
		t.Fatal(err)
	}
	d := &trustDaemon{file: live, started: now, bundle: bundle, slots: []anchor.Slot{{Name: "pcs", Identity: id}},
		seen: []anchor.Peer{{Name: "proxy.ncrs.nhs.uk", Tunnel: "ssp-in", Last: now, CAs: []string{pki.Fingerprint(oldSub.Cert), pki.Fingerprint(oldRoot.Cert)}}}}
	sockets, err := os.MkdirTemp("", "sc") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(sockets) })
	self := []int{os.Getuid()}
	for name, environments := range map[string][]admin.Environment{"one": {{Name: "live"}}, "several": {{Name: "live"}, {Name: "int"}}} {
		serveUnix(t, filepath.Join(sockets, name), admin.NewServer(admin.Backend{
			Writers: func() []int { return self }, Trust: d.backend(),
			Status: func(context.Context) admin.Status { return admin.Status{Environments: environments} },
		}))
	}
	return sockets
}

func (d *trustDaemon) backend() *admin.TrustBackend {
	return &admin.TrustBackend{
		List: func(context.Context) ([]admin.TrustEnvironment, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			v := d.view()
			e := admin.TrustEnvironment{Name: "live", CAs: v.CAs(v.Bundle)}
			next, err := d.proposed(nil)
			if err != nil || next.Digest() == d.bundle.Digest() {
				return []admin.TrustEnvironment{e}, err
			}
			diff, err := v.Diff(next)
			e.Proposed, e.Refused = &diff, "guard rule \"trust-shrink\""
			return []admin.TrustEnvironment{e}, err
		},
		Diff: func(_ context.Context, r admin.TrustDiffRequest) (admin.TrustDiff, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			next, err := d.proposed(r.Files)
			if err == nil && len(r.Drop) > 0 {
				next, err = d.view().Without(next, r.Drop)
			}
			if err != nil {
				return admin.TrustDiff{}, err
			}
			return d.view().Diff(next)
		},
		Add: func(_ context.Context, _ admin.Caller, r admin.TrustAddRequest) (admin.TrustAddResult, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			add, out, err := d.view().Judge(r)
			if err != nil || len(add) == 0 || len(r.SHA256) == 0 {
				return out, err
			}
			data, err := os.ReadFile(d.file)
			if err == nil {
				err = os.WriteFile(d.file, append(data, pki.EncodeCertificates(add...)...), 0o644)
			}
			if err == nil {
				d.bundle, err = readTrust([]string{d.file}, nil)
			}
			out.Done = true
			return out, err
		},
		Accept: func(_ context.Context, _ admin.Caller, r admin.TrustAcceptRequest) (admin.TrustEnvironment, error) {
			d.mu.Lock()
			defer d.mu.Unlock()
			next, err := d.proposed(nil)
			if err != nil {
				return admin.TrustEnvironment{}, err
			}
			if v := d.view(); true {
				if diff, err := v.Diff(next); err != nil || diff.Digest != r.Digest {
					return admin.TrustEnvironment{}, &admin.Error{Code: admin.CodeRefused, Message: "changed since they were looked at"}
				}
			}
			d.bundle = next
			return admin.TrustEnvironment{Name: "live", CAs: d.view().CAs(next)}, nil
		},
	}
}

func (d *trustDaemon) view() anchor.View {
	return anchor.View{Environment: "live", Bundle: d.bundle, Slots: d.slots, Seen: d.seen, Now: d.started}
}

func (d *trustDaemon) proposed(files []admin.File) (*trust.Bundle, error) {
	if len(files) == 0 {
		data, err := os.ReadFile(d.file)
		if err != nil {
			return nil, err
		}
		files = []admin.File{{Name: d.file, Data: data}}
	}
	var sources []trust.Source
	for _, f := range files {
		sources = append(sources, trust.Source{Name: f.Name, Data: f.Data})
	}
	b, err := trust.ParseBundle(sources...)
	if err != nil {
		return nil, &admin.Error{Code: admin.CodeRefused, Message: err.Error(), Hint: pki.Hint(err)}
	}
	return b, nil
}

// openTerminal returns both ends of a new pseudo-terminal.
func openTerminal(t *testing.T) (person, program *os.File) {
	t.Helper()
	person, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { person.Close() })
	if err := unix.IoctlSetPointerInt(int(person.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	number, err := unix.IoctlGetInt(int(person.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	program, err = os.OpenFile(filepath.Join("/dev/pts", strconv.Itoa(number)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Skipf("no pseudo-terminal: %v", err)
	}
	t.Cleanup(func() { program.Close() })
	return person, program
}

// TestTrustAsks: on a terminal the fingerprints are shown, and only a plain yes is one.
func TestTrustAsks(t *testing.T) {
	for _, test := range []struct {
		name, typed, out, errs string
		args                   []string
		exit                   int
	}{
		{"yes", "y\n", "2 CAs added", "Add these 2 CAs to environment live? Compare the fingerprints first. [y/N]", []string{"add", "trust/new.pem"}, exitDone},
		{"no", "n\n", "", "nothing was added", []string{"add", "trust/new.pem"}, exitJudged},
		{"enter", "\n", "", "nothing was added", []string{"add", "trust/new.pem"}, exitJudged},
		{"something else", "maybe\n", "", "nothing was added", []string{"add", "trust/new.pem"}, exitJudged},
		{"yes to what breaks", "yes\n", "accepted, 2 CAs in force", "Something breaks, see above.", []string{"accept", "live"}, exitDone},
		{"no to what breaks", "no\n", "", "nothing was accepted", []string{"accept"}, exitJudged},
	} {
		t.Run(test.name, func(t *testing.T) {
			person, program := openTerminal(t)
			t.Chdir(t.TempDir())
			socket := filepath.Join(serveTrustDaemons(t, "."), "one")
			if test.args[0] == "accept" {
				data, err := os.ReadFile("trust/new.pem")
				if err != nil {
					t.Fatal(err)
				}
				testpki.WriteFile(t, "trust/live.pem", data, 0o644)
			}
			if _, err := person.WriteString(test.typed); err != nil {
				t.Fatal(err)
			}
			var out, errs bytes.Buffer
			exit := Main(t.Context(), "test", append([]string{"trust", "--socket", socket}, test.args...), program, &out, &errs)
			if exit != test.exit || !strings.Contains(out.String(), test.out) || !strings.Contains(errs.String(), test.errs) {
				t.Errorf("exit %d, want %d\nstdout: %s\nstderr: %s", exit, test.exit, out.String(), errs.String())
			}
			if test.exit == exitJudged && strings.Contains(out.String(), " added.") {
				t.Errorf("it says that it added: %s", out.String())
			}
		})
	}
}

// TestTrustAddBesideAWriter: who holds the lock and does not answer is named.
func TestTrustAddBesideAWriter(t *testing.T) {
	t.Chdir(t.TempDir())
	serveTrustDaemons(t, ".")
	testpki.WriteFile(t, "spinecert.yaml", []byte("environments: {live: {trust: [trust/old.pem]}}\nadmin: {socket: {path: none.sock}}\nstate: {directory: state}\n"), 0o644)
	sums, err := os.ReadFile("trust/sums")
	if err != nil {
		t.Fatal(err)
	}
	d, err := state.Lock("state", state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	args := []string{"trust", "add", "--config", "spinecert.yaml", "trust/new.pem", "--yes", "--sha256", string(sums)}
	exit, _, errs := run(t, args...)
	if exit != exitFailed || !strings.Contains(errs, "process "+strconv.Itoa(os.Getpid())+" holds it") || !strings.Contains(errs, "hint: ") {
		t.Errorf("exit %d, %s", exit, errs)
	}
	if files, err := d.TrustFiles("live"); err != nil || len(files) != 0 {
		t.Errorf("written all the same: %v, %v", files, err)
	}
	if err := d.Close(); err != nil {
		t.Fatal(err)
	}
	if exit, out, errs := run(t, args...); exit != exitDone || !strings.Contains(out, offlineNote) {
		t.Errorf("exit %d, %s%s", exit, out, errs)
	}
}
