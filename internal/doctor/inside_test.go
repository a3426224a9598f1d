package doctor

import (
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
)

const day = 24 * time.Hour

// TestWell: nothing is found where all is well.
func TestWell(t *testing.T) {
	w := newWard(t)
	w.outbound = "forward: \"" + w.far(w.issue(farName), w.sub, "-Verify", "3", "-tls1_2") + "\", peers: [" + farName + "]"
	lines := w.examine()
	for _, l := range lines {
		if l.Level != OK || l.Hint != "" || l.Subject == "" {
			t.Errorf("%+v", l)
		}
	}
	for _, code := range []string{Permissions, Trust, CRL, Slot, Tunnel} {
		if len(matching(lines, "ok "+code)) == 0 {
			t.Errorf("no line %s:\n%s", code, text(lines))
		}
	}
}

// broken is one thing that is wrong, and the line that must say so.
type broken struct {
	name  string
	spoil func(w *ward)
	want  string // a pattern
}

func table(t *testing.T, cases []broken) {
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			w := newWard(t)
			tc.spoil(w)
			lines := w.examine()
			found := matching(lines, tc.want)
			if len(found) == 0 {
				t.Fatalf("no line %q in:\n%s", tc.want, text(lines))
			}
			for _, l := range found {
				if l.Level != OK && l.Hint == "" || l.Subject == "" {
					t.Errorf("without a hint or a subject: %+v", l)
				}
			}
		})
	}
}

func chmod(w *ward, name string, mode os.FileMode) {
	w.t.Helper()
	if err := os.Chmod(w.path(name), mode); err != nil {
		w.t.Fatal(err)
	}
}

// later has something done after the state directory was made.
func later(w *ward, do func(in *Inside)) { w.in = do }

func TestPermissions(t *testing.T) {
	table(t, []broken{
		{"everybody writes the configuration", func(w *ward) { later(w, func(*Inside) { chmod(w, "spinecert.yaml", 0o666) }) }, `fail PERMISSIONS the configuration, ".*spinecert.yaml", has mode 0666: everybody may write it`},
		{"everybody writes its directory", func(w *ward) { chmod(w, ".", 0o777) }, `fail PERMISSIONS the directory of the configuration, `},
		{"everybody writes the trust", func(w *ward) { chmod(w, "trust.pem", 0o666) }, `fail PERMISSIONS the file of environment t, ".*trust.pem"`},
		{"everybody reads the key", func(w *ward) { chmod(w, "pcs.key", 0o644) }, `fail PERMISSIONS the key of slot pcs, ".*pcs.key", has mode 0644`},
		{"everybody reads the key, and may", func(w *ward) { chmod(w, "pcs.key", 0o644); w.slot = ", key_permissions: warn" }, `warn PERMISSIONS the key of slot pcs.*key_permissions allows that`},
		{"the key is somebody else's", func(w *ward) {
			later(w, func(in *Inside) { in.UID = os.Getuid() + 1 })
			if os.Getuid() == 0 {
				if err := os.Chown(w.path("pcs.key"), 4711, 4711); err != nil {
					w.t.Fatal(err)
				}
			}
		}, `warn PERMISSIONS the key of slot pcs, ".*", belongs to user`},
		{"everybody writes the state", func(w *ward) { later(w, func(*Inside) { chmod(w, "state", 0o707) }) }, `fail PERMISSIONS the state directory ".*" has mode 0707: others may write it`},
		{"everybody looks into the state", func(w *ward) { later(w, func(*Inside) { chmod(w, "state", 0o755) }) }, `warn PERMISSIONS the state directory ".*" has mode 0755`},
		{"the state is somebody else's", func(w *ward) { later(w, func(in *Inside) { in.UID += 1000 }) }, `fail PERMISSIONS the state directory ".*" belongs to user \d+, and the daemon is user`},
		{"the state cannot be read", func(w *ward) { later(w, func(in *Inside) { in.Directory, in.DirectoryErr = nil, os.ErrPermission }) }, `fail PERMISSIONS permission denied`},
		{"there is no state", func(w *ward) { later(w, func(in *Inside) { in.Directory = nil }) }, `warn PERMISSIONS there is no state directory`},
		{"the slots are open", func(w *ward) { later(w, func(*Inside) { chmod(w, "state/slots", 0o755) }) }, `fail PERMISSIONS ".*/state/slots" its mode is 0755, want 0700`},
		{"the inbox lets others take back", func(w *ward) { later(w, func(*Inside) { chmod(w, "state/inbox", 0o777) }) }, `fail PERMISSIONS ".*/state/inbox" its mode is 0777`},
		{"a stray file", func(w *ward) { later(w, func(*Inside) { w.write("state/notes.txt", nil, 0o600) }) }, `warn PERMISSIONS ".*/notes.txt": stray`},
		{"everybody asks the daemon", func(w *ward) {
			later(w, func(*Inside) {
				l, err := net.Listen("unix", w.path("admin.sock"))
				if err != nil {
					w.t.Fatal(err)
				}
				w.t.Cleanup(func() { _ = l.Close() })
				chmod(w, "admin.sock", 0o777)
			})
		}, `fail PERMISSIONS the admin socket ".*" has mode 0777`},
		{"the socket is none", func(w *ward) { w.write("admin.sock", nil, 0o600) }, `fail PERMISSIONS ".*admin.sock" is no socket`},
	})
}

func TestClockAndAudit(t *testing.T) {
	line := func(at time.Time) []byte {
		return []byte(`{"time":"2001-01-01T00:00:00Z","event":"a"}` + "\n" + `{"time":"` + at.UTC().Format(time.RFC3339) + `","event":"b"}` + "\n" + `{"time":"20`)
	}
	table(t, []broken{
		{"set back", func(w *ward) {
			later(w, func(*Inside) { w.write("state/audit.jsonl", line(w.now.Add(3*day)), 0o600) })
		}, `fail CLOCK the clock is \d days behind the newest entry of the audit file`},
		{"right", func(w *ward) {
			later(w, func(*Inside) { w.write("state/audit.jsonl", line(w.now.Add(-time.Hour)), 0o600) })
		}, `ok CLOCK the newest entry`},
		{"a huge file", func(w *ward) {
			later(w, func(*Inside) {
				w.write("state/audit.jsonl", append([]byte(strings.Repeat("x", 3*auditTail)+"\n"), line(w.now.Add(3*day))...), 0o600)
			})
		}, `fail CLOCK`},
		{"no file", func(w *ward) {
			later(w, func(*Inside) {
				if err := os.Mkdir(w.path("state/audit.jsonl"), 0o700); err != nil {
					w.t.Fatal(err)
				}
			})
		}, `(warn CLOCK the audit file|ok SLOT)`},
	})
}

func TestTrust(t *testing.T) {
	table(t, []broken{
		{"no file", func(w *ward) {
			if err := os.Remove(w.path("trust.pem")); err != nil {
				w.t.Fatal(err)
			}
		}, `fail TRUST environment t has no trust: `},
		{"not a CA", func(w *ward) { w.write("trust.pem", w.leaf.CertPEM(), 0o644) }, `fail TRUST environment t has no trust: `},
		{"an expired CA", func(w *ward) {
			old := w.root.SubCA(w.t, testpki.Name("Old SubCA"), testpki.Validity(w.now.Add(-10*day), w.now.Add(-day)))
			w.write("trust.pem", append(w.sub.BundlePEM(), old.CertPEM()...), 0o644)
		}, `warn TRUST "CN=Old SubCA" in environment t expired on`},
		{"a CA that ends", func(w *ward) {
			old := w.root.SubCA(w.t, testpki.Name("Old SubCA"), testpki.Validity(w.now.Add(-10*day), w.now.Add(60*day+time.Hour)))
			w.write("trust.pem", append(w.sub.BundlePEM(), old.CertPEM()...), 0o644)
		}, `warn TRUST "CN=Old SubCA" in environment t ends in 60 days`},
		{"live and path to live", func(w *ward) {
			w.write("trust.pem", append(vector(w.t, "live"), vector(w.t, "int")...), 0o644)
		}, `fail TRUST environment t mixes live with path to live: int \(.*\), live \(NHS `},
		{"INT and DEP", func(w *ward) { w.write("trust.pem", append(vector(w.t, "int"), vector(w.t, "dep")...), 0o644) }, `warn TRUST environment t accepts peers of both INT and DEP`},
		{"published", func(w *ward) { w.write("trust.pem", vector(w.t, "live"), 0o644) }, `ok TRUST environment t trusts \d roots? and \d subCAs?: NHS live G`},
		{"one that nobody knows", func(w *ward) {
			w.write("trust.pem", append(vector(w.t, "live"), w.root.CertPEM()...), 0o644)
		}, `warn TRUST "CN=.*" in environment t is no CA that the program knows: SHA-256 [0-9a-f]{64}, in "`},
		{"unknown in an NHS profile", func(w *ward) { w.profile = "nhs-g2" }, `warn TRUST "CN=.*" in environment t is no CA that the program knows`},
		{"acceptable CAs", func(w *ward) { w.environment += ", acceptable_cas: [" + w.sub.Cert.Subject.CommonName + "]" }, `ok TRUST environment t asks peers for certificates of `},
		{"an acceptable CA that is expired", func(w *ward) {
			old := w.root.SubCA(w.t, testpki.Name("Old SubCA"), testpki.Validity(w.now.Add(-10*day), w.now.Add(-day)))
			w.write("trust.pem", append(w.sub.BundlePEM(), old.CertPEM()...), 0o644)
			w.environment += ", acceptable_cas: [Old SubCA]"
		}, `(warn|fail) TRUST .*Old SubCA`},
		{"an acceptable CA that is not there", func(w *ward) { w.environment += ", acceptable_cas: [Nobody]" }, `fail TRUST .*Nobody`},
	})
}

// vector is a bundle that the NHS publishes; see shared/spine/ca.
func vector(t *testing.T, environment string) []byte {
	t.Helper()
	data, err := os.ReadFile(filepath.Join("../../../shared/spine/ca", environment+"-bundle.pem"))
	if err != nil {
		t.Skipf("the published bundles are not here: %v", err)
	}
	return data
}

func TestSlot(t *testing.T) {
	ends := func(in time.Duration) func(w *ward) {
		return func(w *ward) { w.serve(w.issue(fqdn, testpki.Validity(w.now.Add(-300*day), w.now.Add(in+time.Hour)))) }
	}
	table(t, []broken{
		{"no files", func(w *ward) {
			_ = os.Remove(w.path("pcs.crt"))
		}, `fail SLOT slot pcs has no identity: `},
		{"of another PKI", func(w *ward) {
			w.serve(testpki.NewRoot(w.t, testpki.Name("Foreign")).Issue(w.t, testpki.DNS(fqdn)))
		}, `fail SLOT slot pcs has no identity: .*unknown_issuer`},
		{"another name", func(w *ward) { w.serve(w.issue("other.nhs.uk")) }, `fail SLOT slot pcs has no identity: .*other.nhs.uk`},
		{"expired since", func(w *ward) { ends(day)(w); later(w, func(in *Inside) { in.Now = w.now.Add(2 * day) }) }, `fail SLOT slot pcs: its certificate or chain expired on`},
		{"peers refuse it then", func(w *ward) { ends(day)(w); later(w, func(in *Inside) { in.Now = w.now.Add(2 * day) }) }, `fail SLOT peers will refuse the certificate of slot pcs: expired: `},
		{"ends this week", ends(5 * day), `fail SLOT slot pcs: its certificate or chain ends in 5 days`},
		{"ends this month", ends(20 * day), `warn SLOT slot pcs: its certificate or chain ends in 20 days`},
		{"who is hit", func(w *ward) { ends(5 * day)(w); w.slot = ", affects: {ods: [T99999]}" }, `fail SLOT .*; affects T99999$`},
		{"a rule", func(w *ward) { w.serve(w.issue(fqdn, testpki.DNS(fqdn, "*.nhs.uk"))) }, `warn SLOT the certificate of slot pcs breaks a rule: error `},
		{"revoked", func(w *ward) {
			w.write("sub.crl", w.sub.CRL(w.t, testpki.IDP(w.server.address+"/sub.crl"), testpki.Revoke(w.leaf.Cert.SerialNumber)), 0o644)
			w.environment = strings.Replace(w.environment, "crl: {", "crl: {files: [sub.crl], ", 1)
		}, `fail SLOT (the certificate of slot pcs is revoked|slot pcs has no identity): .*revoked`},
		{"the configuration has another name now", func(w *ward) {
			later(w, func(in *Inside) { in.Config.Slots[0].FQDN = "other.nhs.uk" })
		}, `fail SLOT slot pcs is for other.nhs.uk, and its certificate for pcs.thirdparty.nhs.uk`},
		{"a request that waits", func(w *ward) {
			later(w, func(in *Inside) { in.Requests = []admin.Request{{ID: "0123456789abcdef", Slot: "pcs", Created: w.now}} })
		}, `warn SLOT request 0123456789abcdef of slot pcs waits for its certificate since`},
		{"an answer that waits", func(w *ward) {
			later(w, func(in *Inside) {
				in.Requests = []admin.Request{{ID: "0123456789abcdef", Slot: "pcs", State: admin.RequestAnswered, LastError: "not_yet_valid"}}
			})
		}, `warn SLOT the answer to request 0123456789abcdef of slot pcs is not in force yet: not_yet_valid`},
	})
}

// TestSource: what is served goes on, and what is wrong with its source is said.
func TestSource(t *testing.T) {
	w := newWard(t)
	w.keeps = true
	w.examine() // keeps generation 1
	w.write("pcs.crt", w.issue(fqdn, testpki.Validity(w.now.Add(-300*day), w.now.Add(200*day))).FullChainPEM(), 0o644)
	lines := w.examine()
	if len(matching(lines, `warn SLOT slot pcs serves generation 1; what its source holds now does not fit together`)) != 1 {
		t.Error(text(lines))
	}
	w.serve(testpki.NewRoot(t, testpki.Name("Foreign")).Issue(t, testpki.DNS(fqdn)))
	lines = w.examine()
	if len(matching(lines, `warn SLOT slot pcs serves generation 1; what its source holds now is refused`)) != 1 {
		t.Error(text(lines))
	}
}

// TestRevokedSince: it was good when it came into force.
func TestRevokedSince(t *testing.T) {
	w := newWard(t)
	files(w, false)
	w.keeps = true
	if lines := matching(w.examine(), `fail SLOT`); len(lines) > 0 {
		t.Fatal(text(lines))
	}
	w.write("sub.crl", w.sub.CRL(t, testpki.IDP(w.server.address+"/sub.crl"), testpki.Revoke(w.leaf.Cert.SerialNumber)), 0o644)
	if found := matching(w.examine(), `fail SLOT the certificate of slot pcs is revoked: revoked: `); len(found) != 1 || found[0].Condition != "own_certificate_revoked/slot/pcs" {
		t.Error(text(found))
	}
}

// TestTimeIsOver: what was not looked at is said.
func TestTimeIsOver(t *testing.T) {
	w := newWard(t)
	c := w.load()
	ctx, cancel := contextEnded(t)
	defer cancel()
	in := Inside{Now: w.now, Config: c, Environments: []*rotate.Environment{}, Tunnels: []Wired{{Config: config.Tunnel{Name: "t"}}}}
	lines := in.Examine(ctx)
	if n := len(matching(lines, "warn PERMISSIONS")); n != 1 {
		t.Errorf("said %d times", n)
	}
	for _, l := range lines {
		if l.Level != Warn || !strings.Contains(l.Message, "not examined") || l.Hint == "" {
			t.Errorf("%+v", l)
		}
	}
}
