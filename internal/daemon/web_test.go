package daemon

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil/promlint"
)

func TestWebIsForLoopbackReadersOnly(t *testing.T) {
	t.Parallel()
	h, _ := simpleHost(t)
	h.start()
	_, port, _ := net.SplitHostPort(h.web)
	for _, tc := range []struct {
		name, request string // without the blank line at its end
		status        int
	}{
		{"by address", "GET /metrics HTTP/1.1\r\nHost: " + h.web, 200},
		{"by name", "GET /healthz HTTP/1.1\r\nHost: localhost:" + port, 200},
		{"IPv6", "GET /readyz HTTP/1.1\r\nHost: [::1]:" + port, 200},
		{"HEAD", "HEAD /healthz HTTP/1.1\r\nHost: localhost", 200},
		{"another site", "GET /metrics HTTP/1.1\r\nHost: evil.example.com", 421},
		{"rebound name with our port", "GET /metrics HTTP/1.1\r\nHost: evil.example.com:" + port, 421},
		{"name that begins like an address", "GET /metrics HTTP/1.1\r\nHost: 127.0.0.1.evil.example.com", 421},
		{"name that ends like ours", "GET /metrics HTTP/1.1\r\nHost: localhost.evil.example.com", 421},
		{"address of another host", "GET /healthz HTTP/1.1\r\nHost: 192.0.2.1", 421},
		{"unspecified address", "GET /healthz HTTP/1.1\r\nHost: 0.0.0.0", 421},
		{"absolute form", "GET http://evil.example.com/metrics HTTP/1.1\r\nHost: localhost", 421},
		{"no host", "GET /metrics HTTP/1.0", 421},
		{"empty host", "GET /metrics HTTP/1.1\r\nHost:", 421},
		{"two hosts", "GET /metrics HTTP/1.1\r\nHost: localhost\r\nHost: evil.example.com", 400},
		{"POST", "POST /metrics HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0", 405},
		{"DELETE", "DELETE /healthz HTTP/1.1\r\nHost: localhost", 405},
		{"admin API", "GET /v1/status HTTP/1.1\r\nHost: localhost", 404},
		{"admin API, change", "POST /v1/reload HTTP/1.1\r\nHost: localhost\r\nContent-Length: 2\r\n\r\n{}", 404},
		{"profiles", "GET /debug/pprof/ HTTP/1.1\r\nHost: localhost", 404},
		{"headers without end", "GET /metrics HTTP/1.1\r\nHost: localhost\r\nX: " + strings.Repeat("a", 64<<10), 431},
	} {
		conn, err := net.DialTimeout("tcp", h.web, 10*time.Second)
		if err != nil {
			t.Fatal(err)
		}
		_ = conn.SetDeadline(time.Now().Add(patience))
		_, _ = io.WriteString(conn, tc.request+"\r\n\r\n") // may be cut short by the answer
		res, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || res.StatusCode != tc.status {
			t.Errorf("%s: %v, %v; want %d", tc.name, res, err, tc.status)
		}
		_ = conn.Close()
	}
}

func TestMetricsLint(t *testing.T) {
	t.Parallel()
	h, leaf := simpleHost(t)
	h.start()
	h.serves("ssp-in", leaf)
	_, body := h.get("/metrics")
	problems, err := promlint.New(strings.NewReader(body)).Lint()
	if err != nil {
		t.Fatal(err)
	}
	for _, p := range problems {
		t.Errorf("%s: %s", p.Metric, p.Text)
	}
	if strings.Contains(body, leaf.Cert.SerialNumber.Text(16)) || strings.Contains(body, leaf.Cert.SerialNumber.Text(10)) {
		t.Error("a series belongs to a serial number")
	}
	documented := documentedSeries(t)
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (spinecert_\S+) (\S+)$`).FindAllStringSubmatch(body, -1) {
		if d, ok := documented[m[1]]; !ok || !strings.HasPrefix(d, m[2]+" ") {
			t.Errorf("%s is a %s, and documented as %q", m[1], m[2], d)
		}
	}
}

// documentedSeries returns type and labels by name, from the table of docs/metrics.md.
func documentedSeries(t *testing.T) map[string]string {
	t.Helper()
	data, err := os.ReadFile("../../docs/metrics.md")
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `(spinecert_[a-z_]+)` \\|(.*)\\|$").FindAllStringSubmatch(string(data), -1) {
		cells := strings.Split(row[2], "|")
		if len(cells) != 4 || strings.TrimSpace(cells[2]) == "" || strings.TrimSpace(cells[3]) == "" {
			t.Errorf("%s: a row has name, type, labels, meaning and when to alert", row[1])
			continue
		}
		if _, twice := out[row[1]]; twice {
			t.Errorf("%s is there twice", row[1])
		}
		labels := regexp.MustCompile("[a-z]+").FindAllString(cells[1], -1)
		slices.Sort(labels)
		out[row[1]] = strings.TrimSpace(cells[0]) + " " + strings.Join(labels, ",")
	}
	return out
}

// TestMetricsAreDocumented holds what the daemon can ever expose against docs/metrics.md.
func TestMetricsAreDocumented(t *testing.T) {
	t.Parallel()
	parts := regexp.MustCompile(`fqName: "([^"]+)".*constLabels: \{(.*)\}, variableLabels: \{([^{}]*)\}`)
	labelNames := regexp.MustCompile(`([a-z]+)=`)
	have := map[string]string{}
	for _, c := range newMetrics("test").own() {
		descs := make(chan *prometheus.Desc, 100)
		c.Describe(descs)
		close(descs)
		for d := range descs {
			m := parts.FindStringSubmatch(d.String())
			if m == nil {
				t.Fatalf("cannot read %s", d)
			}
			var labels []string
			for _, l := range labelNames.FindAllStringSubmatch(m[2], -1) {
				labels = append(labels, l[1])
			}
			if m[3] != "" {
				labels = append(labels, strings.Split(m[3], ",")...)
			}
			if len(labels) == 0 {
				labels = []string{"none"}
			}
			slices.Sort(labels)
			have[m[1]] = kindOf(c) + " " + strings.Join(labels, ",")
		}
	}
	for i, f := range families {
		if i > 0 && families[i-1].name >= f.name {
			t.Errorf("%s comes after %s", f.name, families[i-1].name)
		}
		if _, counted := have[f.name]; counted || strings.ContainsAny(f.help, "\\\n") {
			t.Errorf("%s is in the registry as well, or its help wants to be escaped", f.name)
		}
		if !slices.IsSorted(f.labels) {
			t.Errorf("the labels of %s are not sorted", f.name)
		}
		labels := f.labels
		if len(labels) == 0 {
			labels = []string{"none"}
		}
		have[f.name] = f.kind + " " + strings.Join(labels, ",")
	}
	if diff := cmp.Diff(have, documentedSeries(t)); diff != "" {
		t.Errorf("program (-) and docs/metrics.md (+) differ:\n%s", diff)
	}
}

func kindOf(c prometheus.Collector) string {
	switch c.(type) {
	case prometheus.Histogram:
		return "histogram"
	case *prometheus.GaugeVec, prometheus.Gauge:
		return "gauge"
	}
	return "counter"
}
