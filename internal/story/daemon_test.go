package story

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/spinecert/spinecert/internal/testprogram"
)

// process is a running spinecertd.
type process struct {
	cmd    *exec.Cmd
	output *testprogram.Output
	exited chan struct{}
}

// cmdDaemon starts and ends the daemon: daemon start, daemon stop, daemon kill
func cmdDaemon(ts *testscript.TestScript, neg bool, args []string) {
	w := worldOf(ts)
	if neg || len(args) != 1 || (args[0] == "start") != (w.process == nil) {
		ts.Fatalf("usage: daemon start, and then daemon stop or daemon kill")
	}
	switch args[0] {
	case "start":
		w.start(ts)
	case "kill":
		ts.Check(w.process.cmd.Process.Kill())
		w.process.wait(ts)
		w.process = nil
	case "stop":
		ts.Check(w.process.cmd.Process.Signal(syscall.SIGTERM))
		w.process.wait(ts)
		if code := w.process.cmd.ProcessState.ExitCode(); code != 0 {
			ts.Fatalf("the daemon ended with exit status %d:\n%s", code, w.process.output)
		}
		w.process = nil
	default:
		ts.Fatalf("daemon %s: unknown", args[0])
	}
}

func (w *world) start(ts *testscript.TestScript) {
	program, err := exec.LookPath("spinecertd") // testscript.Main put it there
	ts.Check(err)
	p := &process{cmd: exec.Command(program, "--config", filepath.Join(w.dir, "spinecert.yaml")), output: &testprogram.Output{}, exited: make(chan struct{})}
	p.cmd.Dir = w.dir
	p.cmd.Env = append(os.Environ(), "GORACE="+ts.Getenv("GORACE"))
	p.cmd.Stdout, p.cmd.Stderr = p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	ts.Check(p.cmd.Start())
	go func() { _ = p.cmd.Wait(); close(p.exited) }()
	w.process = p
	ts.Setenv("PID", strconv.Itoa(p.cmd.Process.Pid))
	until(ts, "the daemon answers", func() bool {
		select {
		case <-p.exited:
			ts.Fatalf("the daemon ended:\n%s", p.output)
		default:
		}
		_, err := w.client.Status(context.Background())
		return err == nil
	})
}

func (p *process) wait(ts *testscript.TestScript) {
	select {
	case <-p.exited:
	case <-time.After(patience):
		ts.Fatalf("the daemon does not end:\n%s", p.output)
	}
	ts.Logf("[the daemon said]\n%s", p.output)
	if strings.Contains(p.output.String(), "DATA RACE") {
		ts.Fatalf("the daemon has a data race")
	}
}

// end is for a daemon that the script left running.
func (p *process) end(tb testing.TB) {
	_ = p.cmd.Process.Kill()
	<-p.exited
	if out := p.output.String(); tb.Failed() {
		tb.Logf("the daemon said:\n%s", out)
	} else if strings.Contains(out, "DATA RACE") {
		tb.Errorf("the daemon said:\n%s", out)
	}
}

// until waits until something is so.
func until(ts *testscript.TestScript, what string, ok func() bool) {
	deadline := time.Now().Add(patience)
	for !ok() {
		if time.Now().After(deadline) {
			said := ""
			if p := worldOf(ts).process; p != nil {
				said = p.output.String()
			}
			ts.Fatalf("waited in vain until %s; the daemon said:\n%s", what, said)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// cmdWaitFor waits until the status of the daemon says so: wait-for slots.pcs.generation 2
func cmdWaitFor(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: wait-for PATH VALUE")
	}
	got := ""
	defer func() {
		if (got == args[1]) == neg {
			ts.Logf("%s is %q", args[0], got)
		}
	}()
	until(ts, args[0]+" is "+args[1], func() bool {
		s, err := worldOf(ts).client.Status(context.Background())
		ts.Check(err)
		data, err := json.Marshal(s)
		ts.Check(err)
		var value any
		ts.Check(json.Unmarshal(data, &value))
		got = lookUp(value, args[0])
		return (got == args[1]) != neg
	})
}

// cmdWaitFile waits until a file is there, and text in it: wait-file state/inbox/done/a.pem
func cmdWaitFile(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 || len(args) > 2 {
		ts.Fatalf("usage: wait-file FILE [TEXT]")
	}
	until(ts, strings.Join(args, " has "), func() bool {
		data, err := os.ReadFile(ts.MkAbs(args[0]))
		return err == nil && (len(args) == 1 || strings.Contains(string(data), args[1]))
	})
}

// cmdMetric looks for a line of the metrics: metric 'spinecert_slot_ready{slot="pcs"} 1'
func cmdMetric(ts *testscript.TestScript, neg bool, args []string) {
	if len(args) != 1 {
		ts.Fatalf("usage: metric BEGIN-OF-LINE")
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+ts.Getenv("WEB")+"/metrics", nil)
	ts.Check(err)
	res, err := http.DefaultClient.Do(req)
	ts.Check(err)
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	ts.Check(err)
	if strings.Contains("\n"+string(body), "\n"+args[0]) == neg {
		ts.Fatalf("the metrics have %q: %v, want %v", args[0], neg, !neg)
	}
}

// cmdDrop puts a file into the inbox, whole at once: drop answer.eml 'Re: request.eml'
func cmdDrop(ts *testscript.TestScript, _ bool, args []string) {
	if len(args) != 2 {
		ts.Fatalf("usage: drop FILE NAME")
	}
	inbox := ts.MkAbs("state/inbox")
	hidden := filepath.Join(inbox, "."+args[1])
	ts.Check(os.WriteFile(hidden, []byte(ts.ReadFile(args[0])), 0o644))
	ts.Check(os.Rename(hidden, filepath.Join(inbox, args[1])))
}
