package cli

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/doctor"
	"github.com/spinecert/spinecert/internal/testpki"
)

// doctorDaemon serves a daemon that found these lines.
func doctorDaemon(t *testing.T, status admin.Status, found func(admin.DoctorRequest) (admin.DoctorResult, error)) daemonAddress {
	t.Helper()
	dir, err := os.MkdirTemp("", "sc") // the path of a socket must be short
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { os.RemoveAll(dir) })
	b := admin.Backend{Status: func(context.Context) admin.Status { return status }, Writers: func() []int { return nil }}
	if found != nil {
		b.Doctor = func(_ context.Context, r admin.DoctorRequest) (admin.DoctorResult, error) { return found(r) }
	}
	serveUnix(t, filepath.Join(dir, "a.sock"), admin.NewServer(b))
	return daemonAddress{socket: filepath.Join(dir, "a.sock")}
}

// doctorHost is a configuration with its files, and a daemon's status that fits it.
func doctorHost(t *testing.T) (*doctorOptions, admin.Status) {
	t.Helper()
	dir := t.TempDir()
	sub := testpki.NewRoot(t).SubCA(t)
	leaf := sub.Issue(t, testpki.DNS("pcs.thirdparty.nhs.uk"), testpki.KeyType("rsa-2048"))
	testpki.WriteFile(t, filepath.Join(dir, "trust.pem"), sub.BundlePEM(), 0o644)
	testpki.WriteFile(t, filepath.Join(dir, "pcs.crt"), leaf.FullChainPEM(), 0o644)
	testpki.WriteFile(t, filepath.Join(dir, "pcs.key"), leaf.KeyPEM(), 0o600)
	file := filepath.Join(dir, "s.yaml")
	testpki.WriteFile(t, file, []byte(fmt.Sprintf(`default_environment: t
environments:
  t: {profile: private, trust: [trust.pem], revocation: prefer}
slots:
  pcs: {fqdn: pcs.thirdparty.nhs.uk, files: {certificate: pcs.crt, key: pcs.key}}
tunnels:
  in: {direction: inbound, listen: ["127.0.0.1:1"], forward: "127.0.0.1:1", slot: pcs, peers: ["a.nhs.uk"]}
admin: {socket: {path: %s}}
state: {directory: state}
`, filepath.Join(dir, "admin.sock"))), 0o600)
	o := &doctorOptions{config: file, named: true, version: "v1", patient: time.Minute, now: time.Now(),
		daemon: daemonAddress{socket: filepath.Join(dir, "admin.sock")},
		unit:   func(context.Context) (*doctor.UnitState, error) { return nil, nil },
		kernel: func() (doctor.KernelClock, error) {
			return doctor.KernelClock{Synchronised: true, Estimate: 3 * time.Millisecond}, nil
		}}
	return o, admin.Status{Version: "v1", PID: 4711, Ready: true, Config: admin.ConfigStatus{File: file, Loaded: o.now.Add(time.Minute)}}
}

// TestDoctorText: what the daemon found stands among the rest, in the order of sections.
func TestDoctorText(t *testing.T) {
	o, status := doctorHost(t)
	status.Version, status.Config.Error = "v0", "s.yaml:3:1: wrong\ns.yaml:4:1: too"
	o.daemon = doctorDaemon(t, status, func(r admin.DoctorRequest) (admin.DoctorResult, error) {
		if r.TimeoutMS < 1000 || r.TimeoutMS >= time.Minute.Milliseconds() {
			t.Errorf("the daemon has %d ms", r.TimeoutMS)
		}
		return admin.DoctorResult{Lines: []admin.DoctorLine{
			{Level: "fail", Code: "TUNNEL", Subject: "in", Message: "tunnel in: nobody\x1b[31m", Hint: "start it"},
			{Level: "ok", Code: "TRUST", Subject: "t", Message: "environment t trusts 1 root"},
			{Level: "warn", Code: "CLOCK", Subject: "clock", Message: "the daemon says so", Hint: "look"},
		}}, nil
	})
	o.now = time.Date(2026, 11, 22, 12, 0, 0, 0, time.UTC)
	r, err := runDoctor(t.Context(), o)
	if exit, code := classify(err); exit != exitJudged || code != codeFindings {
		t.Errorf("exit status %d, %s, %v", exit, code, err)
	}
	got := text(r)
	for old, now := range map[string]string{o.config: "/etc/s.yaml", o.daemon.socket: "/run/a.sock", stamp(status.Config.Loaded): "DATE"} {
		got = strings.ReplaceAll(got, old, now)
	}
	golden(t, "doctor.txt", got)
}

// TestDoctorExit: warnings are no failure, and a daemon that does not look is one.
func TestDoctorExit(t *testing.T) {
	for _, tc := range []struct {
		name  string
		found func(admin.DoctorRequest) (admin.DoctorResult, error)
		exit  int
		want  string
	}{
		{"warned", func(admin.DoctorRequest) (admin.DoctorResult, error) {
			return admin.DoctorResult{Lines: []admin.DoctorLine{{Level: "warn", Code: "SLOT", Message: "soon"}}}, nil
		}, exitDone, "warn SLOT soon"},
		{"failed", func(admin.DoctorRequest) (admin.DoctorResult, error) {
			return admin.DoctorResult{Lines: []admin.DoctorLine{{Level: "fail", Code: "SLOT", Message: "now"}}}, nil
		}, exitJudged, "fail SLOT now"},
		{"a code of a later version", func(admin.DoctorRequest) (admin.DoctorResult, error) {
			return admin.DoctorResult{Lines: []admin.DoctorLine{{Level: "fail", Code: "DELIVERY", Message: "no"}}}, nil
		}, exitJudged, "fail DELIVERY no"},
		{"busy", func(admin.DoctorRequest) (admin.DoctorResult, error) {
			return admin.DoctorResult{}, &admin.Error{Code: admin.CodeFailed, Message: "busy", Hint: "try again"}
		}, exitJudged, "fail DAEMON the daemon did not examine what it has: busy\n  hint: try again"},
		{"of an earlier version", nil, exitJudged, "fail DAEMON the daemon did not examine what it has: POST \"/v1/doctor\": not supported by this version\n  hint: it is of an earlier version"},
	} {
		t.Run(tc.name, func(t *testing.T) {
			o, status := doctorHost(t)
			o.daemon = doctorDaemon(t, status, tc.found)
			r, err := runDoctor(t.Context(), o)
			exit := exitDone
			if err != nil {
				exit, _ = classify(err)
			}
			if exit != tc.exit || !strings.Contains(text(r), tc.want) {
				t.Errorf("exit status %d, %v\n%s", exit, err, text(r))
			}
		})
	}
}

// TestDoctorWithoutDaemon: the files are looked at, nothing is written, and one line
// says that nobody answers.
func TestDoctorWithoutDaemon(t *testing.T) {
	o, _ := doctorHost(t)
	before := tree(t, filepath.Dir(o.config))
	r, err := runDoctor(t.Context(), o)
	if exit, _ := classify(err); exit != exitJudged {
		t.Errorf("exit status %d, %v", exit, err)
	}
	got := text(r)
	for _, want := range []string{"fail DAEMON no daemon answers: ", "ok TRUST environment t trusts 1 root and 1 subCA", "ok SLOT slot pcs serves pcs.thirdparty.nhs.uk",
		"warn CRL environment t has revocation: prefer", "fail TUNNEL tunnel in: nothing takes a connection at 127.0.0.1:1", "warn PERMISSIONS there is no state directory"} {
		if !strings.Contains(got, want) {
			t.Errorf("no line %q in:\n%s", want, got)
		}
	}
	if n := strings.Count(got, "DAEMON"); n != 1 {
		t.Errorf("%d lines about the daemon:\n%s", n, got)
	}
	if after := tree(t, filepath.Dir(o.config)); after != before {
		t.Errorf("there was:\n%s\nand is:\n%s", before, after)
	}
	// A configuration that is wrong is examined as well: it is what is wrong.
	testpki.WriteFile(t, o.config, []byte("slots: 5\n"), 0o600)
	if r, err = runDoctor(t.Context(), o); err == nil || !strings.Contains(text(r), "fail CONFIG ") || strings.Contains(text(r), "SLOT") {
		t.Errorf("%v\n%s", err, text(r))
	}
	// Without either there is nothing.
	o.config = filepath.Join(t.TempDir(), "none.yaml")
	r, err = runDoctor(t.Context(), o)
	if exit, code := classify(err); r != nil || exit != exitFailed || code != codeUnreachable {
		t.Errorf("exit status %d, %s, %v", exit, code, err)
	}
}

// TestDoctorFindsTheFile: a daemon knows where its configuration is.
func TestDoctorFindsTheFile(t *testing.T) {
	o, status := doctorHost(t)
	o.daemon = doctorDaemon(t, status, func(admin.DoctorRequest) (admin.DoctorResult, error) { return admin.DoctorResult{}, nil })
	o.config, o.named = filepath.Join(t.TempDir(), "none.yaml"), false
	if r, err := runDoctor(t.Context(), o); err != nil || !strings.Contains(text(r), `ok CONFIG the configuration "`+status.Config.File) {
		t.Errorf("%v\n%s", err, text(r))
	}
	o.named = true
	if r, err := runDoctor(t.Context(), o); err == nil || !strings.Contains(text(r), "fail CONFIG ") {
		t.Errorf("%v\n%s", err, text(r))
	}
}

// TestDoctorMayNotAsk: who may not ask the daemon may not read its keys either.
func TestDoctorMayNotAsk(t *testing.T) {
	o := &doctorOptions{}
	for err, want := range map[error]bool{
		&admin.Unreachable{Err: os.ErrPermission}: false, &admin.Unreachable{Err: os.ErrNotExist}: true, &admin.Unreachable{Err: context.DeadlineExceeded}: true,
		errors.New("noise"): true,
	} {
		if o.mayRead(err) != want {
			t.Errorf("%v: %v", err, !want)
		}
	}
}

// tree lists what is below a directory, with modes and sizes.
func tree(t *testing.T, dir string) string {
	t.Helper()
	var b strings.Builder
	err := filepath.Walk(dir, func(path string, info os.FileInfo, err error) error {
		if err == nil {
			fmt.Fprintln(&b, path, info.Mode(), info.Size(), info.ModTime().UnixNano())
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return b.String()
}
