package sandbox

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/signal"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/goccy/go-yaml"
)

// fakeVariable makes this test binary behave like spinecertd: "good", or with a
// mistake that a rehearsal has to notice.
const fakeVariable = "SANDBOX_TEST_DAEMON"

const (
	fakeGood     = "good"
	fakeGullible = "gullible" // serves what it should refuse
	fakeLossy    = "lossy"    // drops a connection now and then
	fakeAsleep   = "asleep"   // never looks at the files again
	fakeDies     = "dies"     // ends with an error at once
	fakeHasty    = "hasty"    // drops CAs without a word
	fakeStubborn = "stubborn" // never drops a CA
	fakeNaive    = "naive"    // adds CAs that nobody confirmed
	fakeBlind    = "blind"    // does not see what breaks
	fakeDeaf     = "deaf"     // asks for no CRLs
	fakeLazy     = "lazy"     // refuses revoked peers, but cuts nobody
	fakeWild     = "wild"     // cuts everybody when somebody is revoked
	fakeTrusting = "trusting" // lets revoked peers in again with a ticket
	fakeSimple   = "simple"   // believes older lists
)

func TestMain(m *testing.M) {
	if mode := os.Getenv(fakeVariable); mode != "" {
		if err := fakeDaemon(mode); err != nil {
			fmt.Fprintln(os.Stderr, "fake daemon:", err)
			os.Exit(1)
		}
		return
	}
	if os.Getenv("GORACE") == "" { // a program with the race detector otherwise sleeps a second before it ends
		_ = os.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	exit := m.Run()
	_ = os.RemoveAll(built.dir)
	os.Exit(exit)
}

type fakeConfig struct {
	Environments map[string]struct{ Trust []string }
	Slots        map[string]struct {
		Files struct{ Certificate, Key string }
	}
	Tunnels map[string]struct {
		Direction  string
		Listen     []any
		Forward    string
		Slot       string
		ServerName string `yaml:"server_name"`
		TLS        struct{ Resumption *bool }
	}
	Admin struct{ Socket struct{ Path string } }
}

// fakeSlot looks at its files every few milliseconds.
type fakeSlot struct {
	name, cert, key string
	mode            string
	trust           *fakeTrust
	serving         atomic.Pointer[fakeServing]

	mu     sync.Mutex
	digest string
	state  slotStatus
}

type fakeServing struct {
	certificate tls.Certificate
	server      *tls.Config
	sessions    tls.ClientSessionCache
}

func (s *fakeSlot) look() {
	certificate, _ := os.ReadFile(s.cert)
	key, _ := os.ReadFile(s.key)
	s.mu.Lock()
	defer s.mu.Unlock()
	if digest := string(certificate) + string(key); digest != s.digest {
		s.digest = digest
	} else {
		return
	}
	refuse := func(state, why string) {
		s.state.State = state
		s.state.LastError, _ = json.Marshal(why)
	}
	loaded, err := tls.X509KeyPair(certificate, key)
	if err != nil {
		refuse("pending", err.Error())
		return
	}
	if err := s.trust.judge(loaded.Leaf); err != nil && s.mode != fakeGullible {
		refuse("refused", err.Error())
		return
	}
	s.state = slotStatus{Name: s.name, State: "ready", Generation: s.state.Generation + 1, SHA256: fingerprint(loaded.Leaf)}
	server := &tls.Config{Certificates: []tls.Certificate{loaded}, ClientAuth: tls.RequireAnyClientCert, MaxVersion: tls.VersionTLS12}
	server.SetSessionTicketKeys([][32]byte{{byte(s.state.Generation)}})
	s.serving.Store(&fakeServing{loaded, server, tls.NewLRUClientSessionCache(0)})
}

func fakeDaemon(mode string) error {
	if mode == fakeDies {
		return errors.New("no such configuration")
	}
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	config := flag.String("config", "", "")
	flag.Parse()
	text, err := os.ReadFile(*config)
	if err != nil {
		return err
	}
	var c fakeConfig
	if err := yaml.NewDecoder(bytes.NewReader(text)).Decode(&c); err != nil {
		return err
	}
	slots := map[string]*fakeSlot{}
	trust := &fakeTrust{file: c.Environments[environment].Trust[0], mode: mode, slots: slots, seen: map[string]*x509.Certificate{}}
	if err := trust.look(); err != nil {
		return err
	}
	crls := newFakeCRLs(mode, trust)
	go crls.run(ctx)
	go func() {
		for range time.Tick(5 * time.Millisecond) {
			_ = trust.look() // half a file, perhaps
		}
	}()
	for name, s := range c.Slots {
		slot := &fakeSlot{name: name, cert: s.Files.Certificate, key: s.Files.Key, mode: mode, trust: trust}
		slot.state.Name = name
		slot.look()
		slots[name] = slot
		if mode != fakeAsleep {
			go func() {
				for range time.Tick(2 * time.Millisecond) {
					slot.look()
				}
			}()
		}
	}
	var tunnels []tunnelStatus
	for name, t := range c.Tunnels {
		status := tunnelStatus{Name: name}
		for _, l := range t.Listen {
			network, address := "tcp", ""
			switch l := l.(type) {
			case string:
				address = l
			case map[string]any:
				network, address = "unix", l["unix"].(string)
			}
			listener, err := net.Listen(network, address)
			if err != nil {
				return err
			}
			shown := listener.Addr().String()
			if network == "unix" {
				shown = "unix:" + shown
			}
			status.Listen = append(status.Listen, shown)
			full := t.TLS.Resumption != nil && !*t.TLS.Resumption
			go fakeTunnel(listener, slots[t.Slot], name, t.Direction, t.Forward, t.ServerName, full, mode, crls)
		}
		tunnels = append(tunnels, status)
	}
	admin, err := net.Listen("unix", c.Admin.Socket.Path)
	if err != nil {
		return err
	}
	go http.Serve(admin, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPost {
			trust.serve(w, r)
			return
		}
		s := status{PID: os.Getpid(), Ready: true, Tunnels: tunnels}
		trust.condition(&s)
		for _, slot := range slots {
			slot.mu.Lock()
			s.Slots = append(s.Slots, slot.state)
			slot.mu.Unlock()
		}
		json.NewEncoder(w).Encode(s)
	}))
	<-ctx.Done()
	return nil
}

func fakeTunnel(listener net.Listener, slot *fakeSlot, tunnel, direction, forward, name string, full bool, mode string, crls *fakeCRLs) {
	for n := 1; ; n++ {
		conn, err := listener.Accept()
		if err != nil {
			return
		}
		if mode == fakeLossy && n%10 == 0 {
			conn.Close()
			continue
		}
		go func() {
			defer conn.Close()
			far, err := net.Dial("tcp", forward)
			if err != nil {
				return
			}
			defer far.Close()
			serving := slot.serving.Load()
			if direction == "inbound" {
				conn = tls.Server(conn, crls.judging(slot.trust.server(serving.server, tunnel)))
			} else {
				config := &tls.Config{
					ServerName: name, InsecureSkipVerify: true, MaxVersion: tls.VersionTLS12, VerifyConnection: slot.trust.peer(tunnel),
					GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return &serving.certificate, nil },
				}
				if !full {
					config.ClientSessionCache = serving.sessions
				}
				far = tls.Client(far, crls.judging(config))
			}
			done, err := crls.admit(conn, far)
			if err != nil {
				return
			}
			defer done()
			go func() {
				io.Copy(far, conn)
				closeWrite(far)
			}()
			io.Copy(conn, far)
			closeWrite(conn)
		}()
	}
}

func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		half.CloseWrite()
	}
}

// joined is for messages of tests.
func joined(causes []Cause) string {
	var b strings.Builder
	for _, c := range causes {
		fmt.Fprintf(&b, "\n%d x %s", c.Count, c.Cause)
	}
	return b.String()
}
