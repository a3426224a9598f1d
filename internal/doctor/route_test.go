package doctor

import (
	"context"
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
	"github.com/spinecert/spinecert/rotate/fetch"
	"github.com/spinecert/spinecert/trust"
)

func contextEnded(t *testing.T) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	return ctx, cancel
}

// files has the environment take its lists from files.
func files(w *ward, fetched bool) {
	hosts := ""
	if fetched {
		hosts = ", hosts: [\"" + strings.TrimPrefix(w.server.address, "http://") + "\"]"
	}
	w.environment = "revocation: require, crl: {files: [sub.crl, root.crl]" + hosts + "}"
	w.write("sub.crl", w.sub.CRL(w.t, testpki.IDP(w.server.address+"/sub.crl")), 0o644)
	w.write("root.crl", w.root.CRL(w.t, testpki.IDP(w.server.address+"/root.crl")), 0o644)
}

func TestRoutes(t *testing.T) {
	past := func(w *ward) []testpki.CRLOption {
		return []testpki.CRLOption{testpki.ThisUpdate(w.now.Add(-10 * day)), testpki.NextUpdate(w.now.Add(-3 * day))}
	}
	table(t, []broken{
		{"well", func(*ward) {}, `ok CRL http://.*/sub.crl of environment t answers: list of "CN=.*" with 0 entries, issued 60 minutes ago, good for \d+ days`},
		{"switched off", func(w *ward) { w.environment = "revocation: off" }, `warn CRL environment t has revocation: off: a revoked peer is accepted`},
		{"preferred", func(w *ward) { w.environment = strings.Replace(w.environment, "require", "prefer", 1) }, `warn CRL environment t has revocation: prefer`},
		{"not permitted", func(w *ward) { w.environment = "revocation: require" }, `fail CRL http://.*/sub.crl of environment t, named by the certificate of slot pcs, may not be fetched: .*; no list of it is in force`},
		{"not permitted, preferred", func(w *ward) { w.environment = "revocation: prefer" }, `warn CRL http://.* may not be fetched: `},
		{"the server does not have it", func(w *ward) { w.server.put("/sub.crl", nil) }, `fail CRL http://.*/sub.crl of environment t, named by the certificate of slot pcs: .*404`},
		{"named by a CA", func(w *ward) { w.server.put("/root.crl", nil) }, `fail CRL http://.*/root.crl of environment t, named by .*: .*404`},
		{"the server has an old one", func(w *ward) { w.publish(w.sub, "/sub.crl", past(w)...) }, `fail CRL http://.*/sub.crl of environment t: the server has a list that ended on .*; no list of it is in force`},
		{"no list", func(w *ward) { w.server.put("/sub.crl", []byte("<html>")) }, `fail CRL .*/sub.crl of environment t, .*: what the server has is not one CRL`},
		{"an empty answer", func(w *ward) { w.server.put("/sub.crl", []byte{}) }, `fail CRL .*/sub.crl of environment t, `},
		{"signed by nobody", func(w *ward) {
			w.server.put("/sub.crl", testpki.NewRoot(w.t, testpki.Name("Foreign")).CRL(w.t, testpki.IDP(w.server.address+"/sub.crl")))
		}, `fail CRL .*/sub.crl of environment t, .*`},
		{"of another partition", func(w *ward) {
			w.server.put("/sub.crl", w.sub.CRL(w.t, testpki.IDP(w.server.address+"/other.crl")))
		}, `fail CRL .*/sub.crl of environment t, .*not of this address`},
		{"too large to look at", func(w *ward) { w.server.put("/sub.crl", make([]byte, spoolLimit+1)) }, `fail CRL .*/sub.crl .*too large to be judged`},
		{"carried in PEM", func(w *ward) {
			w.server.put("/sub.crl", testpki.EncodeCRL(w.sub.CRL(w.t, testpki.IDP(w.server.address+"/sub.crl"))))
		}, `ok CRL .*/sub.crl of environment t answers`},
		{"in files, and not fetched", func(w *ward) { files(w, false) }, `ok CRL .*/sub.crl of environment t is not fetched; a list of it comes from ".*sub.crl"`},
		{"files", func(w *ward) { files(w, false) }, `ok CRL the list of .* from ".*/sub.crl" in environment t has 0 entries`},
		{"the server is down, and a list is there", func(w *ward) { files(w, true); w.server.put("/sub.crl", nil) }, `warn CRL .*/sub.crl .*404.*; the list in force is from ".*", and good until`},
		{"the server goes back", func(w *ward) {
			files(w, true)
			w.publish(w.sub, "/sub.crl", testpki.ThisUpdate(w.now.Add(-3*day)))
		}, `warn CRL .*/sub.crl of environment t: the server has an older list`},
		{"the file is past its end", func(w *ward) {
			files(w, false)
			w.write("sub.crl", w.sub.CRL(w.t, testpki.IDP(w.server.address+"/sub.crl"), testpki.ThisUpdate(w.now.Add(-10*day)), testpki.NextUpdate(w.now.Add(-time.Hour))), 0o644)
		}, `warn CRL the list of .* ended on .*; it counts until`},
		{"the file is past its grace", func(w *ward) {
			files(w, false)
			w.write("sub.crl", w.sub.CRL(w.t, append(past(w), testpki.IDP(w.server.address+"/sub.crl"))...), 0o644)
		}, `fail CRL the list of .* ended on .*, and the grace is over`},
		{"nobody names one", func(w *ward) {
			root := testpki.NewRoot(w.t)
			w.write("trust.pem", root.BundlePEM(), 0o644)
			w.serve(root.Issue(w.t, testpki.DNS(fqdn)))
		}, `fail CRL no certificate of environment t says where its CRL is`},
	})
}

// TestBroughtLists: a list without a name of its own answers for the address that ends
// as its file does, as when peers are judged.
func TestBroughtLists(t *testing.T) {
	bring := func(name string) func(*ward) {
		return func(w *ward) {
			w.profile = "nhs-g2"
			w.environment = "revocation: require, crl: {files: [" + name + ", root.crl]}"
			w.write(name, w.sub.CRL(w.t), 0o644)
			w.write("root.crl", w.root.CRL(w.t), 0o644)
		}
	}
	table(t, []broken{
		{"of its name", bring("sub.crl"), `ok CRL http://.*/sub.crl of environment t is not fetched; a list of it comes from ".*sub.crl"`},
		{"of a CA, of its name", bring("sub.crl"), `ok CRL http://.*/root.crl of environment t is not fetched; a list of it comes from ".*root.crl"`},
		{"of another name", bring("other.crl"), `fail CRL http://.*/sub.crl of environment t, .*; no list of it is in force`},
		{"of its name, and of another issuer", func(w *ward) {
			bring("sub.crl")(w)
			w.write("sub.crl", w.root.CRL(w.t), 0o644)
		}, `fail CRL http://.*/sub.crl of environment t, .*; no list of it is in force`},
		{"that a peer names", func(w *ward) {
			bring("peer.crl")(w)
			w.environment = "revocation: require, crl: {files: [peer.crl]}"
			later(w, func(in *Inside) {
				e := in.environment(in.Environments[0])
				r := &report{code: CRL}
				client, err := fetch.New(fetch.Config{})
				if err != nil {
					t.Fatal(err)
				}
				e.tryRoute(t.Context(), client, &route{address: "http://crl.example/1/peer.crl", origin: "a peer"}, r)
				if len(matching(r.lines, `ok CRL .* a list of it comes from ".*peer.crl"`)) != 1 {
					t.Errorf("a peer's: %s", text(r.lines))
				}
			})
		}, `ok CRL the list of .* from ".*/peer.crl"`},
	})
}

// TestAsksOnce: each address once, and none that was asked within the minute.
func TestAsksOnce(t *testing.T) {
	w := newWard(t)
	w.examine()
	if n, m := w.server.times("/sub.crl"), w.server.times("/root.crl"); n != 1 || m != 1 {
		t.Errorf("asked %d and %d times", n, m)
	}
	e := environment{Inside: Inside{Now: w.now}}
	known := &route{address: w.server.address + "/sub.crl", known: rotate.CRLStatus{Tried: w.now.Add(-time.Second), Err: errors.New("the daemon knows")}}
	if _, err := e.ask(t.Context(), nil, known, nil); err == nil || err.Error() != "the daemon knows" {
		t.Error(err)
	}
	if n := w.server.times("/sub.crl"); n != 1 {
		t.Errorf("asked %d times", n)
	}
}

func TestInbound(t *testing.T) {
	dead := func(w *ward) { w.service = w.deadAddress() }
	table(t, []broken{
		{"the service does not run", dead, `fail TUNNEL tunnel ssp-in: nothing takes a connection at 127.0.0.1:\d+: .*refused`},
		{"no service on its socket", func(w *ward) { w.service = "unix:" + w.path("none.sock") }, `fail TUNNEL tunnel ssp-in: nothing takes a connection at .*none.sock: .*no such file`},
		{"closed", func(w *ward) { w.state = "closed" }, `fail TUNNEL tunnel ssp-in is closed: slot pcs has no identity`},
		{"does not listen", func(w *ward) { w.state = "failed" }, `fail TUNNEL tunnel ssp-in does not listen: failed`},
		{"audit", func(w *ward) { w.inbound += ", policy: audit" }, `warn TUNNEL tunnel ssp-in has policy: audit`},
		{"any peer", func(w *ward) { w.inbound = `peers: ["*"]` }, `warn TUNNEL tunnel ssp-in has peers: \["\*"\]: every certificate of environment t`},
		{"revocation off", func(w *ward) { w.inbound += ", revocation: off" }, `warn TUNNEL tunnel ssp-in has revocation: off, environment t has require`},
	})
}

func TestFarEnd(t *testing.T) {
	to := func(w *ward, address string) {
		w.outbound = "forward: \"" + address + "\", peers: [" + farName + "], server_name: " + farName
	}
	foreign := func(w *ward) *testpki.Authority {
		return testpki.NewRoot(w.t, testpki.Name("Foreign Root")).SubCA(w.t, testpki.Name("Foreign SubCA"))
	}
	table(t, []broken{
		{"TLS 1.2", func(w *ward) { to(w, w.far(w.issue(farName), w.sub, "-Verify", "3", "-tls1_2")) },
			`ok TUNNEL tunnel sds-out: 127.0.0.1:\d+: the handshake completed: TLS 1.2, TLS_ECDHE_RSA_\w+, sds.national.ncrs.nhs.uk, until 20`},
		{"TLS 1.3", func(w *ward) {
			to(w, w.far(w.issue(farName), w.sub, "-Verify", "3", "-verify_return_error", "-tls1_3"))
			w.outbound += `, tls: {max_version: "1.3"}`
		}, `ok TUNNEL tunnel sds-out: .*: the handshake completed; the server has not said no: TLS 1.3, TLS_AES`},
		{"names our issuer", func(w *ward) { to(w, w.far(w.issue(farName), w.sub, "-Verify", "3", "-tls1_2")) },
			`ok TUNNEL tunnel sds-out: 127.0.0.1:\d+ asks for a certificate of "CN=`},
		{"asks for those of another CA", func(w *ward) { to(w, w.far(w.issue(farName), foreign(w), "-Verify", "3", "-tls1_2")) },
			`warn TUNNEL tunnel sds-out: .* asks for a certificate of "CN=Foreign SubCA", "CN=Foreign Root", and not "CN=.*", which issued`},
		{"refuses ours", func(w *ward) {
			to(w, w.far(w.issue(farName), foreign(w), "-Verify", "3", "-verify_return_error", "-tls1_2"))
		}, `fail TUNNEL tunnel sds-out: .* refuses our certificate, of "CN=.*": remote error: tls: .*; it asks for a certificate of "CN=Foreign SubCA"`},
		{"refuses ours in TLS 1.3", func(w *ward) {
			to(w, w.far(w.issue(farName), foreign(w), "-Verify", "3", "-verify_return_error", "-tls1_3"))
			w.outbound += `, tls: {max_version: "1.3"}`
		}, `fail TUNNEL tunnel sds-out: .* refuses our certificate, of "CN=.*": remote error: tls: `},
		{"asks for none", func(w *ward) { to(w, w.far(w.issue(farName), w.sub, "-tls1_2")) }, `warn TUNNEL tunnel sds-out: .* does not ask for a certificate`},
		{"nobody there", func(w *ward) { to(w, w.deadAddress()) }, `fail TUNNEL tunnel sds-out: connect to 127.0.0.1:\d+: .*refused`},
		{"no TLS there", func(w *ward) { to(w, w.listen()) }, `fail TUNNEL tunnel sds-out: .* ended the handshake before it asked for a certificate: it closed the connection`},
		{"another version", func(w *ward) { to(w, w.far(w.issue(farName), w.sub, "-tls1_3")) }, `fail TUNNEL tunnel sds-out: .*`},
		{"another name", func(w *ward) { to(w, w.far(w.issue("other.nhs.uk"), w.sub, "-Verify", "3", "-tls1_2")) },
			`fail TUNNEL tunnel sds-out: .* shows other.nhs.uk, and is refused: name_mismatch: `},
		{"of another PKI", func(w *ward) {
			to(w, w.far(foreign(w).Issue(w.t, testpki.DNS(farName), testpki.KeyType("rsa-2048")), w.sub, "-Verify", "3", "-tls1_2"))
		}, `fail TUNNEL tunnel sds-out: .* shows sds.national.ncrs.nhs.uk, and is refused: unknown_issuer`},
		{"another name, and audit", func(w *ward) {
			to(w, w.far(w.issue("other.nhs.uk"), w.sub, "-Verify", "3", "-tls1_2"))
			w.outbound += ", policy: audit"
		}, `warn TUNNEL tunnel sds-out: .* would be refused by policy: enforce: name_mismatch`},
		{"its certificate ends", func(w *ward) {
			to(w, w.far(w.issue(farName, testpki.Validity(w.now.Add(-day), w.now.Add(10*day+time.Hour))), w.sub, "-Verify", "3", "-tls1_2"))
		}, `warn TUNNEL tunnel sds-out: .*: its certificate ends in 10 days`},
		{"every user", func(w *ward) {
			w.listens = `"127.0.0.1:2"`
			w.outbound = `allow_users: ["*"], forward: "` + w.deadAddress() + `", peers: [a.nhs.uk]`
		}, `warn TUNNEL tunnel sds-out has allow_users: \["\*"\]`},
	})
}

// TestFarEndLeavesNothing: no session of the tunnel is used, and none is left.
func TestFarEndLeavesNothing(t *testing.T) {
	w := newWard(t)
	address := w.far(w.issue(farName), w.sub, "-Verify", "3", "-tls1_2")
	w.outbound = "forward: \"" + address + "\", peers: [" + farName + "]"
	later(w, func(in *Inside) {
		for range 2 {
			lines := matching(in.Examine(t.Context()), `ok TUNNEL .* asks for a certificate`)
			if len(lines) != 1 {
				t.Error("it was not asked for a certificate: the session was resumed")
			}
		}
	})
	w.examine()
}

func TestEveryModeIsKnown(t *testing.T) {
	for mode, want := range map[trust.Mode]Level{trust.Require: Fail, trust.Prefer: Warn, trust.Off: Warn} {
		e := environment{}
		e.config.Revocation = string(mode)
		if got := e.missing(); got != want {
			t.Errorf("%s: %s", mode, got)
		}
	}
}
