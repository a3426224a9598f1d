package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"fmt"
	"io"
	"net"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"
)

// tenSlots is how many slots the idle memory of spinecertd is measured with.
const tenSlots = 10

// sizes is how much of everything one run does.
type sizes struct {
	rounds    int
	full      int   // handshakes
	resumed   int   // handshakes
	relay     int64 // bytes in each direction
	idle      int   // connections
	rotations int
	settle    time.Duration // from the last byte to the reading of memory
	// Of revocation.
	trust  int // rounds of what is measured without a daemon
	pairs  int // rounds of short blocks of handshakes
	block  int // handshakes
	swaps  int // of the large list
	live   int // open connections
	sweeps int // each revokes one peer
	// Of services.
	turns  int           // rotations of many services
	singly int           // rotations of one
	many   int           // services with nothing to do
	quiet  time.Duration // how long they have nothing to do
	// Of starts and upgrades, with ten slots and with many.
	slots                  int
	starts, longStarts     int
	upgrades, longUpgrades int
	// Of what is asked of a daemon with many slots, and of one that is left alone.
	scrapes int
	rest    time.Duration
}

func sizesFor(opts options) sizes {
	if opts.quick {
		return sizes{rounds: 1, full: 200, resumed: 600, relay: 250e6, idle: 500, rotations: 20, settle: 2 * time.Second,
			trust: 3, pairs: 7, block: 100, swaps: 2, live: 2000, sweeps: 2,
			turns: 3, singly: 20, many: 200, quiet: 35 * time.Second,
			slots: 1000, starts: 5, longStarts: 1, upgrades: 10, longUpgrades: 1, scrapes: 20, rest: 30 * time.Second}
	}
	return sizes{rounds: opts.rounds, full: 500, resumed: 1500, relay: 1e9, idle: 2000, rotations: 100, settle: 5 * time.Second,
		trust: 5, pairs: 15, block: 200, swaps: 5, live: 10_000, sweeps: 5,
		turns: 10, singly: 100, many: 1000, quiet: 75 * time.Second,
		slots: 10_000, starts: 11, longStarts: 3, upgrades: 40, longUpgrades: 3, scrapes: 100, rest: time.Minute}
}

// lab is what all measures share: certificates, the backend, the client's
// configuration and a directory for the files of the proxies.
type lab struct {
	sizes     sizes
	dir       string
	backend   *backend
	authority *authority
	signer    *signer
	servers   []*identity // tenSlots of them; most measures use the first
	clientID  *identity
	client    *tls.Config // of clientID, without a session cache: every handshake is full
	progress  io.Writer
	started   int // instances, to number their directories
}

func newLab(ctx context.Context, s sizes, progress io.Writer) (*lab, error) {
	keys, err := newKeys(ctx, 3+tenSlots)
	if err != nil {
		return nil, err
	}
	l := &lab{sizes: s, progress: progress}
	if l.authority, err = newAuthority(keys, time.Now()); err != nil {
		return nil, err
	}
	l.signer = newSigner(l.authority)
	for _, key := range keys[3:] {
		id, err := l.authority.issue(serverName, key)
		if err != nil {
			return nil, err
		}
		l.servers = append(l.servers, id)
	}
	if l.clientID, err = l.authority.issue(clientName, keys[2]); err != nil {
		return nil, err
	}
	l.client = clientConfig(l.authority.root, l.clientID)
	if l.backend, err = newBackend(); err != nil {
		return nil, err
	}
	if l.dir, err = os.MkdirTemp("", "spinecert-bench-"); err != nil {
		l.backend.close()
		return nil, fmt.Errorf("make directory: %w", err)
	}
	return l, nil
}

func (l *lab) close() {
	l.backend.close()
	os.RemoveAll(l.dir)
}

// clientConfig leaves the client no choice, so that every proxy does the same
// work: TLS 1.2, one suite, X25519, leaf and subCA presented.
func clientConfig(root *x509.Certificate, id *identity) *tls.Config {
	roots := x509.NewCertPool()
	roots.AddCert(root)
	cert := id.tls()
	return &tls.Config{
		MinVersion:       tls.VersionTLS12,
		MaxVersion:       tls.VersionTLS12,
		CipherSuites:     []uint16{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384},
		CurvePreferences: []tls.CurveID{tls.X25519},
		RootCAs:          roots,
		ServerName:       serverName,
		// Not Certificates, which sends nothing when the proxy's list of
		// acceptable CAs does not match.
		GetClientCertificate: func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return cert, nil },
	}
}

// newSite makes the directory and the files of one instance with that many
// listeners.
func (l *lab) newSite(doors int) (*site, error) {
	l.started++
	dir := filepath.Join(l.dir, strconv.Itoa(l.started))
	if err := os.MkdirAll(filepath.Join(dir, "state"), 0o700); err != nil {
		return nil, fmt.Errorf("make directory: %w", err)
	}
	me, err := user.Current()
	if err != nil {
		return nil, fmt.Errorf("look up current user: %w", err)
	}
	group, err := user.LookupGroupId(me.Gid)
	if err != nil {
		return nil, fmt.Errorf("look up current group: %w", err)
	}
	s := &site{
		Dir: dir, Backend: l.backend.addr(), Clients: []string{clientName}, Connections: 4000, Suite: suiteOpenSSL,
		Root: filepath.Join(dir, "root.pem"), Bundle: filepath.Join(dir, "bundle.pem"),
		Superuser: me.Uid == "0", User: me.Username, Group: group.Name, StreamModule: nginxStreamModule(),
	}
	files := map[string][]byte{
		s.Root:   certificatePEM(l.authority.root),
		s.Bundle: certificatePEM(l.authority.root, l.authority.sub),
	}
	addrs, err := freeAddrs(doors)
	if err != nil {
		return nil, err
	}
	for i, addr := range addrs {
		base := filepath.Join(dir, "server-"+strconv.Itoa(i))
		d := door{Listen: addr, Certificate: base + ".crt", Key: base + ".key", Combined: base + ".pem"}
		key, err := l.servers[i].keyPEM()
		if err != nil {
			return nil, err
		}
		chain := l.servers[i].chainPEM()
		files[d.Certificate], files[d.Key], files[d.Combined] = chain, key, append(chain[:len(chain):len(chain)], key...)
		s.Doors = append(s.Doors, d)
	}
	for name, data := range files {
		if err := os.WriteFile(name, data, 0o600); err != nil {
			return nil, fmt.Errorf("write %q: %w", name, err)
		}
	}
	return s, nil
}

// freeAddrs asks the kernel for n ports on loopback and lets them go again;
// start copes with the rare case that somebody takes one in between.
func freeAddrs(n int) ([]string, error) {
	var addrs []string
	for range n {
		ln, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer ln.Close() // all are held until all are found, so that they differ
		addrs = append(addrs, ln.Addr().String())
	}
	return addrs, nil
}
