package story

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/cli"
	"github.com/spinecert/spinecert/internal/daemon"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

const (
	providerName = "pcs.thirdparty.nhs.uk"
	peerName     = "proxy.national.ncrs.nhs.uk"
	patience     = 60 * time.Second // beyond it something never happens
)

// TestMain lets the test binary be both programs.
func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){
		"spinecert": func() {
			os.Exit(cli.Main(context.Background(), "v0.0.0-test", os.Args[1:], os.Stdin, os.Stdout, os.Stderr))
		},
		"spinecertd": func() {
			os.Exit(daemon.Main(context.Background(), "v0.0.0-test", os.Args[1:], os.Stdout, os.Stderr))
		},
	})
}

func TestStory(t *testing.T) {
	testprogram.Need(t, "openssl")
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup:               setup,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"run": cmdRun, "json": cmdJSON, "id": cmdID, "request-of": cmdRequestOf, "expand": cmdExpand,
			"daemon": cmdDaemon, "wait-for": cmdWaitFor, "wait-file": cmdWaitFile, "metric": cmdMetric, "drop": cmdDrop,
			"authority": cmdAuthority, "traffic": cmdTraffic,
		},
	})
}

// world is what surrounds the daemon of one script.
type world struct {
	tb      testing.TB
	dir     string
	sub     *testpki.Authority // of environment live
	other   *testpki.Authority // of environment int
	deep    *testpki.Authority // below sub, and in no trust file
	client  *admin.Client
	process *process
	traffic *traffic
}

type worldKey struct{}

func worldOf(ts *testscript.TestScript) *world { return ts.Value(worldKey{}).(*world) }

// setup makes a PKI, a backend and the variables that the configuration needs.
func setup(env *testscript.Env) error {
	tb, ok := env.T().(testing.TB)
	if !ok {
		return errors.New("the tests were not started by testscript.Run")
	}
	w := &world{tb: tb, dir: env.WorkDir, client: admin.NewClient(filepath.Join(env.WorkDir, "admin.sock"))}
	w.sub = testpki.NewRoot(tb, testpki.Name("Live Root")).SubCA(tb, testpki.Name("Live Authentication"))
	w.other = testpki.NewRoot(tb, testpki.Name("Int Root")).SubCA(tb, testpki.Name("Int Authentication"))
	w.deep = w.sub.SubCA(tb, testpki.Name("Live Devices"))
	for name, data := range map[string][]byte{
		"live.pem": w.sub.BundlePEM(), "int.pem": w.other.BundlePEM(), "deep.pem": w.deep.CertPEM(), "root.pem": w.sub.Root().CertPEM(),
	} {
		testpki.WriteFile(tb, filepath.Join(w.dir, name), data, 0o644)
	}
	env.Values[worldKey{}] = w
	for name, value := range map[string]string{
		"LISTEN": freeAddress(tb), "WEB": freeAddress(tb), "BACKEND": backend(tb), "UID": strconv.Itoa(os.Getuid()), "GID": strconv.Itoa(os.Getgid()),
		"DEEP": fmt.Sprintf("%x", fingerprint(w.deep.Cert)),
	} {
		env.Setenv(name, value)
	}
	if os.Getenv("GORACE") == "" { // a program with the race detector otherwise sleeps a second before it ends
		env.Setenv("GORACE", "atexit_sleep_ms=0")
	}
	env.Defer(w.end)
	return nil
}

func (w *world) end() {
	if w.traffic != nil {
		w.traffic.end()
	}
	if w.process != nil {
		w.process.end(w.tb)
	}
}

// addresses counts loopback addresses given away.
var addresses atomic.Int64

// freeAddress returns an address that nothing listens on. Each has a loopback
// address of its own, so that no connection from 127.0.0.1 gets the port first.
func freeAddress(tb testing.TB) string {
	tb.Helper()
	n := addresses.Add(1)
	l, err := net.Listen("tcp", fmt.Sprintf("127.%d.%d.%d:0", 192+os.Getpid()%60, n/250, 1+n%250))
	if err != nil {
		tb.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

// cmdRun runs spinecert with the configuration of the script and wants an exit
// status: run 3 import answer.pem
func cmdRun(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: run STATUS COMMAND...")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec("spinecert", append(args[1:], "--config", "spinecert.yaml")...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if got != want {
		ts.Fatalf("exit status %d, want %d", got, want)
	}
}

// cmdID keeps the ID that csr new printed: id NAME
func cmdID(ts *testscript.TestScript, _ bool, args []string) {
	for line := range strings.Lines(ts.ReadFile("stdout")) {
		if f := strings.Fields(line); len(args) == 1 && len(f) == 2 && f[0] == "id" {
			ts.Setenv(args[0], f[1])
			return
		}
	}
	ts.Fatalf("usage: id NAME, after a command that printed a request")
}

// cmdRequestOf puts the ID of the request that waits for a slot into REQUEST: request-of SLOT
func cmdRequestOf(ts *testscript.TestScript, _ bool, args []string) {
	s, err := worldOf(ts).client.Status(context.Background())
	ts.Check(err)
	for _, r := range s.Requests {
		if len(args) == 1 && r.Slot == args[0] {
			ts.Setenv("REQUEST", r.ID)
			return
		}
	}
	ts.Fatalf("no request waits for %q", args)
}

// cmdExpand puts the values of variables into a file: expand spinecert.yaml
func cmdExpand(ts *testscript.TestScript, _ bool, args []string) {
	for _, name := range args {
		ts.Check(os.WriteFile(ts.MkAbs(name), []byte(os.Expand(ts.ReadFile(name), ts.Getenv)), 0o600))
	}
}

// cmdJSON looks into the last line of stdout: json result.slots.pcs.state ready
func cmdJSON(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: json PATH VALUE")
	}
	lines := strings.Split(strings.TrimSuffix(ts.ReadFile("stdout"), "\n"), "\n")
	var value any
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &value); err != nil {
		ts.Fatalf("last line of stdout: %v", err)
	}
	if got := lookUp(value, args[0]); (got == args[1]) == neg {
		ts.Fatalf("%s is %q, want %q (not: %v)", args[0], got, args[1], neg)
	}
}

// lookUp follows a path through JSON. What is in a list is named by its name, code
// or slot, or by its place; length is that of the list.
func lookUp(value any, path string) string {
	for key := range strings.SplitSeq(path, ".") {
		switch v := value.(type) {
		case map[string]any:
			value = v[key]
		case []any:
			value = element(v, key)
		default:
			value = nil
		}
	}
	return fmt.Sprint(value)
}

func element(list []any, key string) any {
	if key == "length" {
		return len(list)
	}
	if i, err := strconv.Atoi(key); err == nil && i < len(list) {
		return list[i]
	}
	for _, e := range list {
		m, _ := e.(map[string]any)
		for _, name := range []string{"name", "code", "slot"} {
			if m[name] == key {
				return e
			}
		}
	}
	return nil
}
