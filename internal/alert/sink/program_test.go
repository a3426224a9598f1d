package sink

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/config"
)

func runs(script string, args ...string) config.Sink {
	return config.Sink{Type: config.SinkExec, Command: append([]string{"/bin/sh", "-c", script, "sh"}, args...)}
}

func TestProgram(t *testing.T) {
	t.Setenv("SECRET_OF_THE_DAEMON", "x")
	dir := t.TempDir()
	s := make1(t, runs(`cat > "$1/message"; env | sort > "$1/env"`, dir))
	if err := send(t, s, one()); err != nil {
		t.Fatal(err)
	}
	data, err := os.ReadFile(filepath.Join(dir, "message"))
	if err != nil {
		t.Fatal(err)
	}
	var got document
	if err := json.Unmarshal(data, &got); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(one(), got.Message); diff != "" || got.Version != 1 || got.Event != alert.Escalated || got.Severity != "critical" {
		t.Errorf("%+v (-sent +received)\n%s", got, diff)
	}
	env, err := os.ReadFile(filepath.Join(dir, "env"))
	if err != nil {
		t.Fatal(err)
	}
	want := "LANG=C\nPATH=/usr/sbin:/usr/bin:/sbin:/bin\nPWD=/\nSPINECERT_EVENT=escalated\nSPINECERT_GROUP=slot pcs\nSPINECERT_ID=" + one().ID + "\nSPINECERT_SEVERITY=critical\n"
	if diff := cmp.Diff(want, string(env)); diff != "" {
		t.Errorf("environment (-want +got):\n%s", diff)
	}
	// Whatever a certificate says, the variables are one line each, and the message is read.
	if err := send(t, make1(t, runs(`test "$(env | grep -c .)" = 7 && cat >/dev/null`)), wicked()); err != nil {
		t.Error(err)
	}
	// Many alerts, for a program that does not look.
	if err := send(t, make1(t, runs(`exit 0`)), many(60)); err != nil {
		t.Error(err)
	}
}

func TestBadPrograms(t *testing.T) {
	secret := "ghp_" + strings.Repeat("A1b2C3d4", 6)
	plain := write(t, "plain", "#!/bin/sh\n")
	for name, c := range map[string]struct {
		sink config.Sink
		want []string
	}{
		"says no":       {runs(`echo "no such \033[2Jroute" >&2; exit 3`), []string{`run "/bin/sh": exit status 3: no such`, "by hand"}},
		"shows a token": {runs(`echo "error: token ` + secret + `"; exit 1`), []string{"exit status 1", "may be of a key"}},
		"missing":       {config.Sink{Type: config.SinkExec, Command: []string{"/no/such/program", "argument-with-secret"}}, []string{`run "/no/such/program"`, "check the path"}},
		"no program":    {config.Sink{Type: config.SinkExec, Command: []string{plain}}, []string{"permission denied"}},
		"relative":      {config.Sink{Type: config.SinkExec, Command: []string{"page"}}, []string{"not absolute"}},
		"hangs":         {runs(`cat >/dev/null; sleep 100`), []string{"no end within its time", "give the sink a longer timeout"}},
		"prints":        {runs(`yes; exit 1`), []string{"no end within its time"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if strings.Contains(c.want[0], "no end") {
				c.sink.Timeout = short
			}
			err := send(t, make1(t, c.sink), one())
			says(t, err, c.want...)
			without(t, err, secret, "argument-with-secret")
		})
	}
}

func TestJournal(t *testing.T) {
	var got []*alert.Message
	s, err := New(config.Sink{Name: "journal", Type: config.SinkJournal, Min: "warning"}, Options{Log: func(m *alert.Message) { got = append(got, m) }})
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range []*alert.Message{one(), wicked()} {
		if err := send(t, s, m); err != nil {
			t.Error(err)
		}
	}
	if len(got) != 2 {
		t.Fatalf("%d messages", len(got))
	}
	if diff := cmp.Diff(one(), got[0]); diff != "" {
		t.Error(diff)
	}
	harmless(t, "the log", got[1].Notices[0].Condition.Message)
	if s.Min != "warning" {
		t.Error(s.Min)
	}
}
