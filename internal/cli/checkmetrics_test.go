package cli

import (
	"context"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/internal/testprogram"
)

// publish runs a check at checkNow, and returns its metrics: from the file where the options name one.
func publish(t *testing.T, o *checkOptions) string {
	t.Helper()
	o.textfile = true
	r, err := runCheck(context.Background(), o)
	if r == nil {
		t.Fatal(err)
	}
	published, err := o.publish(r)
	if err != nil {
		t.Fatal(err)
	}
	if o.outputFile == "" {
		return text(published)
	}
	if got := text(published); got != text(r) {
		t.Errorf("stdout is not the line of the plugin:\n%s", got)
	}
	data, err := os.ReadFile(o.outputFile)
	if err != nil {
		t.Fatal(err)
	}
	return string(data)
}

// series are the lines that are no comments.
func series(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if !strings.HasPrefix(line, "#") {
			out.WriteString(line)
		}
	}
	return out.String()
}

// hostileName is what somebody might have in a certificate, or name a file.
const hostileName = "a\"b\\c\n# TYPE x counter\nx{y=\"<script>\"} 1 |\x1b[31m\u202e\xff"

func hostileStatus() (admin.Status, admin.TrustEnvironment) {
	s, e := goodStatus(), exampleTrust(900*oneDay)
	s.Slots[0].NotAfter = in(3 * oneDay)
	s.Slots = append(s.Slots, admin.Slot{Name: "new", State: "empty"})
	s.Conditions = []admin.Condition{
		wrong(condition.ServiceFailed, condition.Service, "nginx", "pcs", condition.Critical),
		wrong(condition.ServiceFailed, condition.Service, "nginx", "pcs", condition.Critical), // as some codes are, twice of one subject
		wrong(condition.CRLStale, condition.Environment, hostileName, "", condition.Warning),
		wrong(condition.Expiring, condition.Slot, "pcs", "pcs", condition.Critical),
	}
	e.CAs = append(e.CAs, admin.TrustCA{Subject: "CN=" + hostileName, NotAfter: checkNow.Add(800 * oneDay)},
		admin.TrustCA{Subject: "CN=Gone", NotAfter: checkNow.Add(-oneDay)})
	return s, e
}

func TestCheckTextfile(t *testing.T) {
	s, e := hostileStatus()
	got := publish(t, daemonOf(serveStatus(t, s, e)))
	bad := `a\"b\\c\\n# TYPE x counter\\nx{y=\"(script)\"} 1 /\\x1b[31m\\u202e`
	want := `# SPINECERT CRITICAL - pcs expires in 3d (2026-12-01T00:00:00Z), affects T99999; nginx: service_failed: something is wrong; in two lines, affects T99999; nginx: service_failed: something is wrong; in two lines, affects T99999; and 3 more
# HELP spinecert_check_condition_active Something that is wrong: 1, and no series when it is not.
# TYPE spinecert_check_condition_active gauge
spinecert_check_condition_active{condition="crl_stale",severity="warning",subject="` + bad + `\ufffd"} 1
spinecert_check_condition_active{condition="service_failed",severity="critical",subject="nginx"} 1
# HELP spinecert_check_last_run_timestamp_seconds When the check was made.
# TYPE spinecert_check_last_run_timestamp_seconds gauge
spinecert_check_last_run_timestamp_seconds 1795824000
# HELP spinecert_check_not_after_timestamp_seconds When it ends: the first to end of its certificates, as it was seen last.
# TYPE spinecert_check_not_after_timestamp_seconds gauge
spinecert_check_not_after_timestamp_seconds{kind="ca",name="live/Authentication"} 1873584000
spinecert_check_not_after_timestamp_seconds{kind="ca",name="live/Gone"} 1795737600
spinecert_check_not_after_timestamp_seconds{kind="ca",name="live/Old Root"} 2227824000
spinecert_check_not_after_timestamp_seconds{kind="ca",name="live/` + bad + `\ufffd"} 1864944000
spinecert_check_not_after_timestamp_seconds{kind="slot",name="mesh"} 1804464000
spinecert_check_not_after_timestamp_seconds{kind="slot",name="pcs"} 1796083200
# HELP spinecert_check_result The worst status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.
# TYPE spinecert_check_result gauge
spinecert_check_result 2
# HELP spinecert_check_status 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: it could not be looked at.
# TYPE spinecert_check_status gauge
spinecert_check_status{kind="ca",name="live/Authentication"} 0
spinecert_check_status{kind="ca",name="live/Gone"} 1
spinecert_check_status{kind="ca",name="live/Old Root"} 0
spinecert_check_status{kind="ca",name="live/` + bad + `\ufffd"} 0
spinecert_check_status{kind="slot",name="mesh"} 0
spinecert_check_status{kind="slot",name="new"} 1
spinecert_check_status{kind="slot",name="pcs"} 2
`
	want = strings.ReplaceAll(want, `\ufffd`, "\uFFFD")
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestCheckTextfileSameName: of several that have one name the worst counts, and the first end.
func TestCheckTextfileSameName(t *testing.T) {
	limits := checkLimits{30 * 86400, 7 * 86400}
	item := func(days int) checkItem {
		return limits.item(checkCA, "live/CA", []span{{to: checkNow.Add(time.Duration(days) * oneDay)}}, checkNow)
	}
	unseen, nobody := fault(checkCA, "live/CA", pluginUnknown, errExample), item(-1)
	nobody.Status, nobody.SecondsLeft = pluginOK, nil
	want := `spinecert_check_last_run_timestamp_seconds 1795824000
spinecert_check_not_after_timestamp_seconds{kind="ca",name="live/CA"} 1796083200
spinecert_check_result 2
spinecert_check_status{kind="ca",name="live/CA"} 2
`
	for _, items := range [][]checkItem{{item(3), unseen, item(900), nobody}, {nobody, item(900), unseen, item(3)}} {
		r := &checkResult{Items: items, Status: pluginCritical} // as they come, not as a result sorts them
		if diff := cmp.Diff(want, series(text(r.metrics(checkNow.Unix())))); diff != "" {
			t.Errorf("(-want +got)\n%s", diff)
		}
	}
}

// TestCheckTextfileKept: what cannot be looked at keeps its dates, and says 3 beside them. What is not asked for any more goes.
func TestCheckTextfileKept(t *testing.T) {
	t.Chdir(t.TempDir())
	odd := "b\"\\.pem"
	for name, days := range map[string]int{"a.pem": 10, odd: 20} {
		root := testpki.NewRoot(t, testpki.KeyType("ecdsa-p256"), testpki.Validity(checkNow, checkNow.Add(time.Duration(days)*oneDay)))
		testpki.WriteFile(t, name, root.CertPEM(), 0o644)
	}
	s, e := hostileStatus()
	s.Conditions = s.Conditions[:1]
	socket := serveStatus(t, s, e)
	const nobody = "/nonexistent/s"
	check := func(step, socket string, files, slots []string, want string) {
		t.Helper()
		o := daemonOf(socket, slots...)
		o.files, o.outputFile = files, "x.prom"
		var got strings.Builder
		for line := range strings.Lines(series(publish(t, o))) {
			if rest, ok := strings.CutPrefix(line, "spinecert_check_"); ok && !strings.HasPrefix(rest, "last_run") && !strings.Contains(line, `kind="ca"`) {
				got.WriteString(rest)
			}
		}
		if diff := cmp.Diff(want, got.String()); diff != "" {
			t.Errorf("%s (-want +got)\n%s", step, diff)
		}
	}
	files, slots := []string{"a.pem", odd, "none.pem"}, []string{"pcs", "mesh"}
	kept := `condition_active{condition="service_failed",severity="critical",subject="nginx"} 1
not_after_timestamp_seconds{kind="file",name="a.pem"} 1796688000
not_after_timestamp_seconds{kind="file",name="b\"\\.pem"} 1797552000
not_after_timestamp_seconds{kind="slot",name="mesh"} 1804464000
not_after_timestamp_seconds{kind="slot",name="pcs"} 1796083200
result 2
`
	check("all there", socket, files, slots, kept+`status{kind="file",name="a.pem"} 1
status{kind="file",name="b\"\\.pem"} 1
status{kind="file",name="none.pem"} 3
status{kind="slot",name="mesh"} 0
status{kind="slot",name="pcs"} 2
`)
	for _, name := range files[:2] {
		if err := os.Remove(name); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 { // what was kept is kept again
		check("nothing there", nobody, files, slots, kept+`status{kind="daemon",name="/nonexistent/s"} 2
status{kind="file",name="a.pem"} 3
status{kind="file",name="b\"\\.pem"} 3
status{kind="file",name="none.pem"} 3
status{kind="slot",name="mesh"} 3
status{kind="slot",name="pcs"} 3
`)
	}
	check("less is asked for", nobody, files[:1], slots[1:], `condition_active{condition="service_failed",severity="critical",subject="nginx"} 1
not_after_timestamp_seconds{kind="file",name="a.pem"} 1796688000
not_after_timestamp_seconds{kind="slot",name="mesh"} 1804464000
result 2
status{kind="daemon",name="/nonexistent/s"} 2
status{kind="file",name="a.pem"} 3
status{kind="slot",name="mesh"} 3
`)
	empty := goodStatus()
	empty.Slots[0].NotAfter = admin.Time{}
	check("a slot is served again", serveStatus(t, goodStatus(), e), files[:1], slots, `not_after_timestamp_seconds{kind="file",name="a.pem"} 1796688000
not_after_timestamp_seconds{kind="slot",name="mesh"} 1804464000
not_after_timestamp_seconds{kind="slot",name="pcs"} 1813104000
result 3
status{kind="file",name="a.pem"} 3
status{kind="slot",name="mesh"} 0
status{kind="slot",name="pcs"} 0
`)
	check("a slot has nothing to serve", serveStatus(t, empty, e), nil, slots, `not_after_timestamp_seconds{kind="slot",name="mesh"} 1804464000
result 2
status{kind="slot",name="mesh"} 0
status{kind="slot",name="pcs"} 2
`)
	check("the daemon is back, and has less", serveStatus(t, goodStatus(), e), files[:1], []string{"pcs"}, `not_after_timestamp_seconds{kind="slot",name="pcs"} 1813104000
result 3
status{kind="file",name="a.pem"} 3
status{kind="slot",name="pcs"} 0
`)
}

// TestCheckTextfileKeepsAll: of a daemon that does not answer everything is kept, of one that does not say its CAs those.
func TestCheckTextfileKeepsAll(t *testing.T) {
	file := filepath.Join(t.TempDir(), "x.prom")
	run := func(socket string) string {
		o := daemonOf(socket)
		o.outputFile = file
		return publish(t, o)
	}
	s, e := hostileStatus()
	before := run(serveStatus(t, s, e))
	after := run("/nonexistent/s")
	for line := range strings.Lines(series(before)) {
		if strings.HasPrefix(line, metricStatus) {
			line = line[:strings.LastIndexByte(line, ' ')] + " 3\n"
		}
		if !strings.Contains(after, line) {
			t.Errorf("no %s\n%s", line, after)
		}
	}
	s.Slots, s.Conditions = s.Slots[1:2], nil
	noTrust := serveSocket(t, admin.NewServer(admin.Backend{Writers: func() []int { return nil }, Status: func(context.Context) admin.Status { return s }}))
	got := run(noTrust)
	for what, want := range map[string]bool{`status{kind="ca",name="live/Authentication"} 3`: true, `not_after_timestamp_seconds{kind="ca",name="live/Authentication"} 1873584000`: true, `{kind="slot",name="pcs"}`: false, metricCondition: false,
		`status{kind="slot",name="mesh"} 0`: true, `status{kind="daemon",name="` + noTrust + `"} 3`: true} {
		if strings.Contains(got, what) != want {
			t.Errorf("%s: want %t\n%s", what, want, got)
		}
	}
}

// TestCheckTextfileOlder: a file that something else wrote gives nothing.
func TestCheckTextfileOlder(t *testing.T) {
	m := parseMetrics(strings.Join([]string{
		metricStatus + `{kind="slot",name="pcs"} 2`, metricResult + " 3", metricLastRun + " 5", "other{kind=\"slot\",name=\"x\"} 1", metricStatus + `{kind="slot",name="a"b"} 1`, metricStatus + `{kind="slot",name="x\n"} 1`,
		metricStatus + `{kind="slot",name="x"} 1.5`, metricStatus + `{kind="slot",name="x",y="z"} 1`, metricStatus + `{kind="slot"`, metricNotAfter + "{} 7", metricCondition + `{kind="slot",name="x"} 1`, "} {", " {",
	}, "\n"))
	want := map[string]map[string]int64{metricCondition: {}, metricNotAfter: {}, metricStatus: {`{kind="slot",name="pcs"}`: 2}}
	if diff := cmp.Diff(want, m.series); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}
}

// TestCheckTextfileWritten: the file is replaced as a whole, for all to read, and only then the exit status is 0.
func TestCheckTextfileWritten(t *testing.T) {
	t.Chdir(t.TempDir())
	testpki.WriteFile(t, "c.pem", testpki.NewRoot(t, testpki.Validity(time.Now(), time.Now().Add(3*oneDay))).CertPEM(), 0o644)
	args := []string{"check", "--file", "c.pem", "--output", "textfile", "--output-file", "x.prom"}
	testpki.WriteFile(t, "x.prom", []byte("old\n"), 0o600)
	if err := os.Link("x.prom", "reader"); err != nil { // whoever has opened the old one reads it to its end
		t.Fatal(err)
	}
	exit, out, errs := run(t, args...)
	if exit != 0 || !strings.HasPrefix(out, "SPINECERT CRITICAL - c.pem expires in ") || errs != "" {
		t.Errorf("exit %d\n%s%s", exit, out, errs)
	}
	if old, err := os.ReadFile("reader"); err != nil || string(old) != "old\n" {
		t.Errorf("the file was written in its place: %q, %v", old, err)
	}
	info, err := os.Stat("x.prom")
	if err != nil || info.Mode() != 0o644 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
	if left, err := filepath.Glob(".*"); err != nil || len(left) != 0 {
		t.Errorf("left over: %q, %v", left, err)
	}
	for _, file := range []string{"nowhere/x.prom", "dir.prom", "link.prom"} {
		switch file {
		case "dir.prom":
			err = os.Mkdir(file, 0o755)
		case "link.prom":
			err = os.Symlink("x.prom", file)
		}
		if err != nil {
			t.Fatal(err)
		}
		exit, out, errs := run(t, append(args[:len(args)-1:len(args)-1], file)...)
		if exit != 3 || !strings.HasPrefix(out, "SPINECERT UNKNOWN - ") || strings.Contains(out, metricResult) || strings.Contains(errs, "error:") {
			t.Errorf("%s: exit %d\n%s%s", file, exit, out, errs)
		}
	}

	// On stdout the metrics alone, also where nothing could be checked.
	exit, out, errs = run(t, args[:5]...)
	if exit != 0 || !strings.Contains(out, "\nspinecert_check_result 2\n") || errs != "" {
		t.Errorf("exit %d\n%s%s", exit, out, errs)
	}
	exit, out, errs = run(t, "check", "--output", "textfile", "--warning", "30")
	if exit != 3 || !strings.Contains(out, "\nspinecert_check_result 3\n") || strings.Contains(out, metricStatus) || !strings.HasPrefix(errs, "error: --warning: ") {
		t.Errorf("exit %d\n%s%s", exit, out, errs)
	}
	if exit, out, errs = run(t, "status", "--output", "textfile"); exit != 2 || out != "" || !strings.Contains(errs, `--output "textfile": unknown`) {
		t.Errorf("another command: exit %d\n%s%s", exit, out, errs)
	}
}

// TestCheckTextfileRead: what Prometheus itself says of the format, and what a server would get of it.
func TestCheckTextfileRead(t *testing.T) {
	promtool := testprogram.Need(t, "promtool")
	s, e := hostileStatus()
	o := daemonOf(serveStatus(t, s, e))
	o.outputFile = filepath.Join(t.TempDir(), "spinecert.prom")
	file := publish(t, o)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for what, metrics := range map[string]string{"file": file, "of no use": text(mustMetrics(t))} {
		cmd := exec.CommandContext(ctx, promtool, "check", "metrics")
		cmd.Stdin = strings.NewReader(metrics)
		if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
			t.Errorf("%s: promtool check metrics: %v\n%s", what, err, out)
		}
	}
	got := scrapeTextfile(ctx, t, testprogram.Need(t, "prometheus-node-exporter"), filepath.Dir(o.outputFile))
	for line := range strings.Lines(series(file)) {
		if at := line[:strings.LastIndexByte(line, ' ')+1]; !strings.Contains(got, "\n"+at) {
			t.Errorf("no %s:\n%s", at, got)
		}
	}
	if !strings.Contains(got, "\nnode_textfile_scrape_error 0\n") || !strings.Contains(got, "\nspinecert_check_status{kind=\"slot\",name=\"pcs\"} 2\n") || !strings.Contains(got, `subject="a\"b\\c\\n# TYPE`) {
		t.Errorf("node_exporter says:\n%s", got)
	}
}

// mustMetrics are those of a command with a wrong flag.
func mustMetrics(t *testing.T) *checkMetrics {
	t.Helper()
	r, err := unknown(errExample)
	if err == nil || r.Status != pluginUnknown {
		t.Fatalf("%+v, %v", r, err)
	}
	return r.metrics(checkNow.Unix())
}

// scrapeTextfile runs a node_exporter that reads dir, and returns what a Prometheus would get.
func scrapeTextfile(ctx context.Context, t *testing.T, program, dir string) string {
	t.Helper()
	cmd := exec.CommandContext(ctx, program, "--collector.disable-defaults", "--collector.textfile", "--collector.textfile.directory="+dir,
		"--web.disable-exporter-metrics", "--web.listen-address=127.0.0.1:0", "--log.format=json")
	log, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	lines := json.NewDecoder(log)
	for {
		var line struct{ Address string }
		if err := lines.Decode(&line); err != nil {
			t.Fatalf("node_exporter does not listen: %v", err)
		}
		if _, port, found := strings.Cut(line.Address, "127.0.0.1:"); found && port != "0" {
			return scrape(ctx, t, "http://"+line.Address+"/metrics")
		}
	}
}

func scrape(ctx context.Context, t *testing.T, url string) string {
	t.Helper()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, url, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		t.Fatal(err)
	}
	defer answer.Body.Close()
	body, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		t.Fatalf("%s: %v\n%s", answer.Status, err, body)
	}
	return string(body)
}
