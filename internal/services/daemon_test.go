package services

import (
	"bytes"
	"context"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/cli"
	"github.com/spinecert/spinecert/internal/testpki"
)

// configure writes the configuration of the daemon: slot pcs of environment live, and
// the services, which begin with the word.
func (h *host) configure(services string) {
	h.t.Helper()
	uid, gid := ids()
	h.config = h.path("spinecert.yaml")
	h.write("spinecert.yaml", fmt.Appendf(nil, `environments:
  live: {profile: private, trust: [trust.pem], revocation: require, crl: {files: [sub.crl, root.crl]}}
slots:
  pcs: {fqdn: %s, files: {certificate: pcs.crt, key: pcs.key}, watch: {poll: 100ms}}
%s
admin: {socket: {path: admin.sock, group: "%s"}, writers: ["%s"]}
state: {directory: state}
`, ownName, services, gid, uid), 0o600)
}

// startDaemon starts spinecertd and waits until it answers.
func (h *host) startDaemon() {
	h.t.Helper()
	self, err := os.Executable()
	if err != nil {
		h.t.Fatal(err)
	}
	cmd := exec.Command(self)
	cmd.Args = []string{"spinecertd", "--config", h.config}
	h.daemon = h.start(cmd, "spinecertd")
	daemon := h.daemon
	h.t.Cleanup(func() { // before it is ended
		if out := daemon.String(); strings.Contains(out, "DATA RACE") || strings.Contains(out, "panic:") {
			h.t.Error("the daemon has a data race or a panic")
		}
	})
	h.until("the daemon answers", func() bool {
		if h.daemon.ended() {
			h.t.Fatalf("the daemon ended:\n%s", h.daemon)
		}
		exit, _, _ := h.spinecert("status")
		return exit == 0
	})
}

// stopDaemon ends the daemon as a service manager does.
func (h *host) stopDaemon() {
	h.t.Helper()
	if err := h.daemon.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.t.Fatal(err)
	}
	h.until("the daemon ends", h.daemon.ended)
	if code := h.daemon.cmd.ProcessState.ExitCode(); code != 0 {
		h.t.Errorf("the daemon ended with exit status %d", code)
	}
}

// spinecert runs a command with --output json and returns its exit status, its result
// and the code of its error.
func (h *host) spinecert(args ...string) (exit int, result json.RawMessage, code string) {
	h.t.Helper()
	var out, errs bytes.Buffer
	exit = cli.Main(context.Background(), "test", append(args, "--config", h.config, "--output", "json"), strings.NewReader(""), &out, &errs)
	var said struct {
		Result json.RawMessage `json:"result"`
		Error  struct {
			Code string `json:"code"`
		} `json:"error"`
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &said); err != nil {
		h.t.Fatalf("spinecert %q: last line of the output: %v: %s%s", args, err, out.String(), errs.String())
	}
	return exit, said.Result, said.Error.Code
}

// service returns what `spinecert services` says of one.
func (h *host) service(name string) admin.Service {
	h.t.Helper()
	_, result, _ := h.spinecert("services")
	var all struct {
		Services []admin.Service `json:"services"`
	}
	if err := json.Unmarshal(result, &all); err != nil {
		h.t.Fatalf("spinecert services: %v: %s", err, result)
	}
	for _, s := range all.Services {
		if s.Name == name {
			return s
		}
	}
	h.t.Fatalf("spinecert services does not know %q: %s", name, result)
	return admin.Service{}
}

// slot returns generation and leaf of slot pcs.
func (h *host) slot() admin.ServiceVersion {
	h.t.Helper()
	_, result, _ := h.spinecert("status")
	var all struct {
		Slots []struct {
			Generation uint64 `json:"generation"`
			SHA256     string `json:"sha256"`
		} `json:"slots"`
	}
	if err := json.Unmarshal(result, &all); err != nil || len(all.Slots) != 1 {
		h.t.Fatalf("spinecert status: %v: %s", err, result)
	}
	return admin.ServiceVersion{Generation: all.Slots[0].Generation, Leaf: all.Slots[0].SHA256}
}

// settled waits until a service is in sync with what the files of the slot hold:
// by its own word, by that of the slot, and as everybody sees it who connects.
func (h *host) settled(name, address string) admin.Service {
	h.t.Helper()
	var s admin.Service
	h.until(name+" is in sync with the files of the slot", func() bool {
		s = h.service(name)
		return s.State == "in_sync" && s.Served.Leaf == fingerprint(h.own)
	})
	slot := h.slot()
	if s.Desired.Generation != slot.Generation || s.Delivered.Generation != slot.Generation || s.Proved.Generation != slot.Generation || s.Served.Generation != slot.Generation {
		h.t.Errorf("%s is in sync, and the slot has generation %d: %+v", name, slot.Generation, s)
	}
	h.serves(address, ownName, h.own)
	return s
}

// state waits until a service is in a state, with a step and a reason.
func (h *host) state(name, state, step, reason string) admin.Service {
	h.t.Helper()
	var s admin.Service
	for end := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		s = h.service(name)
		if s.State == state && s.Step == step && s.Reason == reason {
			return s
		}
		if time.Now().After(end) {
			h.t.Fatalf("%s is not %s at step %q because of %q, but: %+v", name, state, step, reason, s)
		}
	}
}

// deliver is `spinecert deliver NAME --now`; it returns the exit status and the code
// of the error.
func (h *host) deliver(name string) (exit int, code string) {
	h.t.Helper()
	exit, _, code = h.spinecert("deliver", name, "--now")
	return exit, code
}

// fingerprint is the SHA-256 of a certificate, lower-case hex.
func fingerprint(leaf *testpki.Leaf) string {
	sum := sha256.Sum256(leaf.Cert.Raw)
	return hex.EncodeToString(sum[:])
}

// look connects as the peer, with a name as SNI, and returns the chain that it is shown.
// It knows nothing of the daemon and judges by the root alone; names it does not.
func (h *host) look(address, name string) (fingerprints []string, err error) {
	h.t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	config := h.clientTLS(name)
	config.InsecureSkipVerify, config.VerifyConnection = true, func(s tls.ConnectionState) error {
		o := x509.VerifyOptions{Roots: config.RootCAs, Intermediates: x509.NewCertPool()}
		for _, c := range s.PeerCertificates[1:] {
			o.Intermediates.AddCert(c)
		}
		_, err := s.PeerCertificates[0].Verify(o)
		return err
	}
	d := tls.Dialer{NetDialer: &net.Dialer{}, Config: config}
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	conn, ok := c.(*tls.Conn)
	if !ok {
		return nil, errors.New("that is no connection of TLS")
	}
	for _, cert := range conn.ConnectionState().PeerCertificates {
		sum := sha256.Sum256(cert.Raw)
		fingerprints = append(fingerprints, hex.EncodeToString(sum[:]))
	}
	return fingerprints, nil
}

// serves wants a leaf and its chain, and nothing else, now.
func (h *host) serves(address, name string, want *testpki.Leaf) {
	h.t.Helper()
	got, err := h.look(address, name)
	if err != nil {
		h.t.Fatalf("%s at %s: %v", name, address, err)
	}
	if len(got) != 1+len(want.Chain) || got[0] != fingerprint(want) {
		h.t.Errorf("%s serves %d certificates, the first %.16s; want %d and %.16s", address, len(got), got[0], 1+len(want.Chain), fingerprint(want))
	}
}

// soon waits until a leaf is served by so many connections in a row.
func (h *host) soon(address, name string, want *testpki.Leaf, stable int) {
	h.t.Helper()
	row := 0
	h.until(address+" serves the new certificate", func() bool {
		for ; row < stable; row++ {
			got, err := h.look(address, name)
			if err != nil || got[0] != fingerprint(want) {
				row = 0
				return false
			}
		}
		return true
	})
}
