package sandbox

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"
)

// serviceSlot is the slot of all services, and serviceName the name in its certificates.
const (
	serviceSlot = "service"
	serviceName = "service.sandbox.thirdparty.nhs.uk"
)

// service is one program that takes part: what the daemon delivers to, reloads and
// proves. It is judged from outside, by clients that know nothing of the daemon.
type service struct {
	installed
	dir     string
	socket  string // of HAProxy
	address string
	port    int // the descriptor that holds the port
	stand   *proxy
	child   *child // nil until it is started
	leaf    string // that it was last proved to serve; of whoever follows it

	configured configService

	mu      sync.Mutex
	result  ServiceResult
	samples []time.Duration
}

// newService makes the directory and the configuration of a program, which close
// gives back. keep has the daemon leave a bad set where it is.
func newService(l *layout, p installed, stand *proxy, keep bool) (*service, error) {
	v := &service{installed: p, dir: l.service(p.name), socket: l.haproxySocket(), stand: stand, result: ServiceResult{Name: p.name}}
	// The daemon delivers into a directory that is there.
	if err := os.MkdirAll(v.delivered(""), 0o700); err != nil {
		return nil, fmt.Errorf("create directory: %w", err)
	}
	var err error
	if v.port, v.address, err = reserve(); err != nil {
		return nil, err
	}
	if err := v.configure(keep); err != nil {
		return nil, errors.Join(fmt.Errorf("configure %s: %w", p.name, err), v.close())
	}
	return v, nil
}

// configure writes the configuration of the program, and makes that of the daemon.
func (v *service) configure(keep bool) error {
	config, err := v.fill(v.config)
	if err == nil {
		err = os.WriteFile(filepath.Join(v.dir, v.file), []byte(config), 0o600)
	}
	if err == nil {
		err = v.mend()
	}
	if err != nil {
		return err
	}
	return v.describe(keep)
}

// describe makes what the daemon's configuration says of the service.
func (v *service) describe(keep bool) error {
	validate, err := v.filled(v.validate)
	if err != nil {
		return err
	}
	reload, err := v.fill(v.reload)
	if err != nil {
		return err
	}
	v.configured = configService{
		Name: v.name, Directory: v.delivered(""), Files: v.files, Validate: append([]string{v.path}, validate...), Reload: reload,
		Address: v.address, Host: serviceName, Keep: keep,
	}
	return nil
}

// delivered is where the daemon delivers, or a file that it delivered.
func (v *service) delivered(name string) string {
	if name == "" {
		return filepath.Join(v.dir, "spine")
	}
	return filepath.Join(v.dir, "spine", "current", name)
}

// reserve holds a port of 127.0.0.1 that the kernel chooses: bound, and never
// listened on. The kernel gives it to nobody else, and a server that sets
// SO_REUSEADDR, as all do, may bind it and listen.
func reserve() (descriptor int, address string, err error) {
	descriptor, err = unix.Socket(unix.AF_INET, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, "", fmt.Errorf("reserve port: %w", err)
	}
	err = unix.SetsockoptInt(descriptor, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1)
	if err == nil {
		err = unix.Bind(descriptor, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}})
	}
	var name unix.Sockaddr
	if err == nil {
		name, err = unix.Getsockname(descriptor)
	}
	own, ok := name.(*unix.SockaddrInet4)
	if err != nil || !ok {
		return -1, "", errors.Join(fmt.Errorf("reserve port: %w", err), unix.Close(descriptor))
	}
	return descriptor, fmt.Sprintf("127.0.0.1:%d", own.Port), nil
}

// fill puts what belongs to this sandbox into a text.
func (v *service) fill(text string) (string, error) {
	name, group, err := whoAmI()
	if err != nil {
		return "", err
	}
	user := ""
	if os.Geteuid() == 0 { // its workers would else be somebody who has no way into the directory
		user = strings.TrimSpace("user "+name+" "+group) + ";\n"
	}
	return strings.NewReplacer("{dir}", v.dir, "{socket}", v.socket, "{address}", v.address, "{host}", serviceName,
		"{answer}", v.answer(), "{user}", user, "{program}", v.path).Replace(text), nil
}

func (v *service) filled(words []string) ([]string, error) {
	text, err := v.fill(strings.Join(words, "\n"))
	return strings.Split(text, "\n"), err
}

// answer is what the program answers to a request.
func (v *service) answer() string { return v.name + " of the sandbox" }

// spoil breaks the configuration of the program, which goes on with what it has read.
func (v *service) spoil() error { return v.writeExtra(v.unknownLine) }

// mend takes that back.
func (v *service) mend() error { return v.writeExtra("# nothing\n") }

func (v *service) writeExtra(text string) error {
	path := filepath.Join(v.dir, "extra.conf")
	if err := os.WriteFile(path+".new", []byte(text), 0o600); err != nil {
		return err
	}
	return os.Rename(path+".new", path)
}

// start starts the program, once the daemon has delivered what it needs to start.
func (v *service) start(ctx context.Context) error {
	arguments, err := v.filled(v.run)
	if err != nil {
		return err
	}
	v.child, err = startChild(ctx, v.name, filepath.Join(v.dir, v.name+".log"), v.dir, nil, v.path, arguments...)
	return err
}

// close stops the program and gives its port back.
func (v *service) close() error {
	err := unix.Close(v.port)
	if v.child == nil {
		return err
	}
	early := v.child.ended()
	stopped := v.child.stop()
	if _, ok := errors.AsType[*exec.ExitError](stopped); ok && early == nil {
		stopped = nil // which status it ends with on SIGTERM is its own affair
	}
	return errors.Join(err, stopped)
}

// dial makes a connection to the program. The ledger sees every leaf before it is judged.
func (v *service) dial(ctx context.Context, network, _ string) (net.Conn, error) {
	conn, _, err := v.handshake(ctx, network)
	return conn, err
}

// handshake makes a full handshake and returns the fingerprint of the leaf as well.
func (v *service) handshake(ctx context.Context, network string) (net.Conn, string, error) {
	begun := time.Now()
	raw, err := new(net.Dialer).DialContext(ctx, network, v.address)
	if err != nil {
		return nil, "", fmt.Errorf("dial %s: %w", v.name, err)
	}
	conn := tls.Client(raw, &tls.Config{
		MinVersion: tls.VersionTLS12,
		MaxVersion: tls.VersionTLS12, // SPINE.md, 2
		ServerName: serviceName,
		VerifyConnection: func(cs tls.ConnectionState) error {
			if len(cs.PeerCertificates) == 0 {
				return errors.New("it sent no certificate")
			}
			v.stand.ledger.sawAt(v.name, serviceSlot, cs.PeerCertificates[0], cs.DidResume, begun)
			// It has to send its chain: nothing is added to that.
			return judge(cs.PeerCertificates, v.stand.trust.Load().roots, x509.NewCertPool(), x509.ExtKeyUsageServerAuth, serviceName)
		},
		// The library knows no name in a certificate without SAN.
		InsecureSkipVerify: true,
	})
	if err := conn.HandshakeContext(ctx); err != nil {
		return nil, "", errors.Join(fmt.Errorf("handshake with %s: %w", v.name, err), raw.Close())
	}
	return conn, fingerprint(conn.ConnectionState().PeerCertificates[0]), nil
}

// look makes one new connection and returns the fingerprint of the leaf that it showed.
func (v *service) look(ctx context.Context) (string, error) {
	conn, leaf, err := v.handshake(ctx, "tcp")
	if err != nil {
		return "", err
	}
	// What becomes of a connection that has shown what it was made for is no matter.
	_ = conn.Close()
	return leaf, nil
}

// note changes the result.
func (v *service) note(change func(*ServiceResult)) {
	v.mu.Lock()
	defer v.mu.Unlock()
	change(&v.result)
}

// proved counts a rotation that was seen from outside, took after it was written; 0
// leaves it out of the latencies.
func (v *service) proved(took time.Duration) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.Proved++
	if took > 0 {
		v.samples = append(v.samples, took)
	}
}

// totals are the result so far.
func (v *service) totals() ServiceResult {
	v.mu.Lock()
	defer v.mu.Unlock()
	r := v.result
	r.LatencyMS = distribution(v.samples)
	return r
}
