package sandbox

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// needPrograms skips a test where a program is not installed; in CI that is a failure.
func needPrograms(t *testing.T) {
	t.Helper()
	if _, err := findPrograms(Programs(), serverDirectories()); err != nil {
		if os.Getenv("CI") != "" {
			t.Fatalf("%v, and CI must have them", err)
		}
		t.Skip(err)
	}
}

// TestServices is a short rehearsal with nginx, HAProxy and spinecertd themselves.
func TestServices(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	var out bytes.Buffer
	dir := filepath.Join(t.TempDir(), "box")
	r, err := Rehearse(t.Context(), RehearseOptions{Rotations: 6, Services: Programs(),
		Options: whole(t, Options{Dir: dir, Duration: 4 * time.Second, Program: "spinecert", Out: &out})})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	if !r.Passed() {
		t.Errorf("problems %q%s\n%s", r.Problems, joined(r.Causes), &out)
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var said struct{ Services []map[string]any }
	if err := json.Unmarshal(text, &said); err != nil || len(said.Services) != 2 {
		t.Fatalf("services %v, %v", said.Services, err)
	}
	for i, name := range Programs() {
		s := said.Services[i]
		if s["name"] != name || s["rotations"] != 6.0 || s["proved"] != 6.0 || s["rolled_back"] != 1.0 || s["failed_requests"] != 0.0 {
			t.Errorf("%s: %v", name, s)
		}
		if n, ok := s["requests"].(float64); !ok || n < 20 {
			t.Errorf("%s: requests %v", name, s["requests"])
		}
		if l := r.Services[i].LatencyMS; l.Samples != 5 || l.P50 <= 0 {
			t.Errorf("%s: latency %+v", name, l)
		}
		for _, want := range []string{"  " + name + " ", name + " broken: the delivery was rolled back", name + ": rotations 6  proved 6  rolled back 1"} {
			if !strings.Contains(out.String(), want) {
				t.Errorf("the output does not say %q:\n%s", want, &out)
			}
		}
	}
	var f facts
	if text, err = os.ReadFile(filepath.Join(dir, "sandbox.json")); err == nil {
		err = json.Unmarshal(text, &f)
	}
	if err != nil || len(f.Services) != 2 {
		t.Fatalf("sandbox.json: %v\n%s", err, text)
	}
	for name, address := range f.Services {
		if c, err := net.DialTimeout("tcp", address, time.Second); err == nil {
			c.Close()
			t.Errorf("%s still listens on %s", name, address)
		}
	}
}

// TestServicesNotRolledBack: the daemon is told to leave a bad set where it is.
func TestServicesNotRolledBack(t *testing.T) {
	t.Parallel()
	needPrograms(t)
	var out bytes.Buffer
	r, err := Rehearse(t.Context(), RehearseOptions{Rotations: 1, Services: Programs(),
		Options: whole(t, Options{Duration: time.Second, Program: "spinecert", Out: &out, keepBad: true, within: time.Second})})
	if err != nil {
		t.Fatalf("%v\n%s", err, &out)
	}
	for i, name := range Programs() {
		if want := name + ": the broken delivery was not rolled back"; !slices.Contains(r.Problems, want) {
			t.Errorf("problems %q do not say %q", r.Problems, want)
		}
		// What was mended is proved all the same.
		if s := r.Services[i]; s.RolledBack != 0 || s.Proved != 1 || s.FailedRequests != 0 {
			t.Errorf("%+v%s\n%s", s, joined(r.Causes), &out)
		}
		if !strings.Contains(out.String(), name+": a broken delivery was not rolled back: not within 1s: the daemon says failed, validate, validate_failed") {
			t.Errorf("the output does not say what the daemon says of %s:\n%s", name, &out)
		}
	}
}

// TestProgramsMissing: exit status 2, before anything is started.
func TestProgramsMissing(t *testing.T) {
	t.Setenv("PATH", "")
	_, err := Rehearse(t.Context(), RehearseOptions{Rotations: 1, Services: Programs(), directories: []string{}})
	var hint interface{ Hint() string }
	if !errors.Is(err, ErrUsage) || !errors.As(err, &hint) {
		t.Fatalf("error %v; want a usage error with a hint", err)
	}
	if got, want := err.Error(), "services: not installed: nginx, haproxy (looked in PATH)"; got != want {
		t.Errorf("error %q, want %q", got, want)
	}
	if got, want := hint.Hint(), "apt-get install nginx-light haproxy, or leave them out"; got != want {
		t.Errorf("hint %q, want %q", got, want)
	}
}

// TestFindPrograms: a directory of administrators counts, and one that is missing is the only one named.
func TestFindPrograms(t *testing.T) {
	t.Setenv("PATH", "")
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "haproxy"), nil, 0o700); err != nil {
		t.Fatal(err)
	}
	found, err := findPrograms([]string{"haproxy"}, []string{"/nowhere", dir})
	if err != nil || len(found) != 1 || found[0].path != filepath.Join(dir, "haproxy") {
		t.Errorf("found %v, %v", found, err)
	}
	if _, err := findPrograms([]string{"haproxy", "nginx"}, []string{dir}); err == nil || !strings.Contains(err.Error(), "not installed: nginx (looked in PATH, "+dir+")") {
		t.Errorf("error %v", err)
	}
	if !slices.Contains(serverDirectories(), "/usr/sbin") {
		t.Error("where Debian has them is not looked at")
	}
}

// TestBreaks: each service is broken once, and not all in one rotation where there are more.
func TestBreaks(t *testing.T) {
	for rotations := 1; rotations < 50; rotations++ {
		var at []int
		for place := range 2 {
			for n := range rotations {
				if breaks(place, 2, n, rotations) {
					at = append(at, n)
				}
			}
		}
		if len(at) != 2 || rotations > 2 && at[0] == at[1] {
			t.Errorf("of %d rotations are broken %v", rotations, at)
		}
	}
	for _, test := range []struct {
		rotations int
		duration  time.Duration
		want      int
	}{{20, 20 * time.Second, 20}, {1000, 120 * time.Second, 240}, {6, time.Second, 2}, {6, time.Millisecond, 1}} {
		if got := serviceRotations(test.rotations, test.duration); got != test.want {
			t.Errorf("%d in %s: %d, want %d", test.rotations, test.duration, got, test.want)
		}
	}
}

func TestJudgeServices(t *testing.T) {
	good := ServiceResult{Name: "nginx", Rotations: 6, Proved: 6, RolledBack: 1, Requests: 100}
	want := wanted{services: []string{"nginx"}, serviceRotations: 6}
	judged := func(s ...ServiceResult) []string { return Result{Requests: 1, Services: s}.judge(want) }
	if p := judged(good); len(p) != 0 {
		t.Errorf("problems %q of a good one", p)
	}
	for name, change := range map[string]func(*ServiceResult){
		"too few":         func(s *ServiceResult) { s.Rotations, s.Proved = 5, 5 },
		"not proved":      func(s *ServiceResult) { s.Proved = 5 },
		"not rolled back": func(s *ServiceResult) { s.RolledBack = 0 },
		"failed":          func(s *ServiceResult) { s.FailedRequests = 1 },
		"silent":          func(s *ServiceResult) { s.Requests = 0 },
	} {
		s := good
		if change(&s); len(judged(s)) != 1 || !strings.HasPrefix(judged(s)[0], "nginx: ") {
			t.Errorf("%s: problems %q, want one of nginx", name, judged(s))
		}
	}
	if p := judged(); len(p) == 0 {
		t.Error("a service that never started is no problem")
	}
}

// TestServicePaths: what the programs cannot be told is refused before they are started.
func TestServicePaths(t *testing.T) {
	for _, dir := range []string{"a b", "{", strings.Repeat("d", 85)} {
		c := &cast{layout: &layout{dir: "/tmp/" + dir}}
		if err := c.addServices(Options{programs: []installed{{}}}); !errors.Is(err, ErrUsage) {
			t.Errorf("%q: %v", dir, err)
		}
	}
}

// TestReserve: the port is ours, and a server may listen on it.
func TestReserve(t *testing.T) {
	v := &service{}
	var err error
	if v.port, v.address, err = reserve(); err != nil {
		t.Fatal(err)
	}
	for range 2 { // also after a restart
		l, err := net.Listen("tcp", v.address)
		if err != nil {
			t.Fatal(err)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
	}
	if err := v.close(); err != nil {
		t.Error(err)
	}
	if got := fmt.Sprint(v.address); !strings.HasPrefix(got, "127.0.0.1:") || strings.HasSuffix(got, ":0") {
		t.Errorf("address %s", got)
	}
}
