package daemon

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
)

// parsed returns the families of a scrape, sorted. A registry would accept them: each
// series is there once.
func parsed(t *testing.T, text string) []*dto.MetricFamily {
	t.Helper()
	p := expfmt.NewTextParser(model.LegacyValidation)
	byName, err := p.TextToMetricFamilies(strings.NewReader(text))
	if err != nil {
		t.Fatalf("%v, in\n%s", err, text)
	}
	var out []*dto.MetricFamily
	for _, mf := range byName {
		out = append(out, mf)
	}
	slices.SortFunc(out, func(a, b *dto.MetricFamily) int { return strings.Compare(a.GetName(), b.GetName()) })
	strict := prometheus.Gatherers{prometheus.GathererFunc(func() ([]*dto.MetricFamily, error) { return out, nil })}
	if _, err := strict.Gather(); err != nil {
		t.Error(err)
	}
	return out
}

// encoded is what the Prometheus client makes of families.
func encoded(t *testing.T, mfs []*dto.MetricFamily, format expfmt.Format) string {
	t.Helper()
	var b strings.Builder
	e := expfmt.NewEncoder(&b, format)
	for _, mf := range mfs {
		if err := e.Encode(mf); err != nil {
			t.Fatal(err)
		}
	}
	return b.String()
}

func rendered(t *testing.T, s *scrape, counted ...*dto.MetricFamily) string {
	t.Helper()
	var b bytes.Buffer
	w := bufio.NewWriter(&b)
	if err := errors.Join(s.write(w, counted, nil), w.Flush()); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

// hostile is a scrape whose names are not those of a configuration.
func hostile() *scrape {
	s := &scrape{writable: true, pending: map[string]int{`a"b`: 3}}
	for i, name := range []string{"plain", `a"b`, `a\b`, "a\nb", `\n`, `"} 7` + "\nspinecert_slot_ready 9\n", "", "é<b>\u2028\x01", strings.Repeat(`\"`, 3000)} {
		s.slots = append(s.slots, slotFacts{name: name, ready: i%2 == 0, generation: float64(i), pending: 1763881200.125, request: 1e21, asks: i > 0,
			fared: rotated{i%3 == 0, float64(i), []outcomes{{"refused", name, 1}, {"published", "", 2}}}, tried: i > 1, ends: ends{1.5, 0, float64(i)}})
		s.conditions = append(s.conditions, condition.Condition{Code: condition.Expiring, Severity: condition.Warning, Subject: name}, condition.Condition{Code: condition.Expiring, Severity: condition.Warning, Subject: name})
		s.tunnels = append(s.tunnels, tunnelFacts{name, float64(i), 1 << 53, 0})
		s.services = append(s.services, deliver.Status{Config: config.Service{Name: name}, State: deliver.InSync})
	}
	return s
}

// TestScrapeIsWrittenAsTheClientWould: the text is, byte for byte, what the Prometheus
// client makes of what it reads in it, whatever the names, and however names are to be
// escaped; and no name makes a line.
func TestScrapeIsWrittenAsTheClientWould(t *testing.T) {
	t.Parallel()
	d := newFleet(t, 3)
	counted, err := d.metrics.registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	series := map[string]int{ // of the nine slots of hostile
		"spinecert_slot_ready": 9, "spinecert_slot_last_rotation_successful": 7, "spinecert_slot_last_rotation_success_timestamp_seconds": 8,
		"spinecert_request_pending_since_timestamp_seconds": 8, "spinecert_certificate_not_after_timestamp_seconds": 17, "spinecert_condition_active": 9, "spinecert_rotations_total": 18,
	}
	for name, s := range map[string]*scrape{"fleet": d.scrape(), "hostile": hostile()} {
		text := rendered(t, s, counted...)
		mfs := parsed(t, text)
		for _, scheme := range []model.EscapingScheme{model.NoEscaping, model.UnderscoreEscaping, model.DotsEscaping, model.ValueEncodingEscaping} {
			format := expfmt.FmtText.WithEscapingScheme(scheme)
			if diff := cmp.Diff(encoded(t, mfs, format), text); diff != "" {
				t.Errorf("%s, %s: client (-) and scrape (+) differ:\n%s", name, scheme, diff)
			}
		}
		for _, mf := range mfs {
			if want, ok := series[mf.GetName()]; name == "hostile" && ok && len(mf.Metric) != want {
				t.Errorf("%s: %d series, want %d", mf.GetName(), len(mf.Metric), want)
			}
			for _, m := range mf.Metric {
				for _, l := range m.Label {
					if name == "hostile" && l.GetName() == "slot" && !slices.ContainsFunc(s.slots, func(f slotFacts) bool { return f.name == l.GetValue() }) {
						t.Errorf("there is no slot %q", l.GetValue())
					}
				}
			}
		}
	}
	s := &scrape{slots: []slotFacts{{name: "a\xffb"}}}
	if text := rendered(t, s); !strings.Contains(text, "spinecert_slot_ready{slot=\"a\uFFFDb\"} 0\n") {
		t.Errorf("a name that is not UTF-8: %q", text)
	}
}

// TestScrapeNegotiates: any client gets the text format, and gzip if it takes that.
func TestScrapeNegotiates(t *testing.T) {
	t.Parallel()
	d := newFleet(t, 1)
	const text = "text/plain; version=0.0.4; charset=utf-8"
	ask := func(target, accept, encoding string) (http.Header, string) {
		t.Helper()
		w, r := httptest.NewRecorder(), httptest.NewRequest(http.MethodGet, "http://localhost/metrics"+target, nil)
		for name, value := range map[string]string{"Accept": accept, "Accept-Encoding": encoding} {
			if value != "" {
				r.Header.Set(name, value)
			}
		}
		d.webServer().Handler.ServeHTTP(w, r)
		body := io.Reader(w.Body)
		if w.Header().Get("Content-Encoding") == "gzip" {
			z, err := gzip.NewReader(body)
			if err != nil {
				t.Fatal(err)
			}
			body = z
		}
		all, err := io.ReadAll(body)
		if err != nil || w.Code != http.StatusOK {
			t.Fatal(w.Code, err)
		}
		return w.Header(), string(all)
	}
	for _, accept := range []string{
		"", "text/plain", "*/*", "text/html", "application/openmetrics-text; version=1.0.0",
		"application/vnd.google.protobuf;proto=io.prometheus.client.MetricFamily;encoding=delimited",
		"application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2",
	} {
		h, body := ask("", accept, "")
		if h.Get("Content-Type") != text || h.Get("Vary") != "Accept-Encoding" || h.Get("Content-Encoding") != "" {
			t.Errorf("Accept %q: %v", accept, h)
		}
		parsed(t, body)
	}
	for encoding, zipped := range map[string]bool{
		"": false, "gzip": true, "GZIP": true, "deflate, gzip;q=0.5, br": true, "gzip ; q=1": true,
		"gzip;q=0": false, "gzip;q=0.0": false, "gzip;q=x": false, "identity": false, "zstd": false, "*": false, "xgzip": false,
	} {
		h, body := ask("", "", encoding)
		if (h.Get("Content-Encoding") == "gzip") != zipped {
			t.Errorf("Accept-Encoding %q: %v", encoding, h)
		}
		parsed(t, body)
	}
	_, body := ask("?name[]=spinecert_slot_ready&name[]=go_goroutines&name[]=none", "", "")
	if mfs := parsed(t, body); len(mfs) != 2 || mfs[0].GetName() != "go_goroutines" || mfs[1].GetName() != "spinecert_slot_ready" {
		t.Errorf("two families were asked for:\n%s", body)
	}
}

// broken is an answer that fails after some bytes, as one to a client that has gone.
type broken struct {
	*httptest.ResponseRecorder
	room int
}

func (b *broken) Write(p []byte) (int, error) {
	if b.room -= len(p); b.room < 0 {
		return 0, io.ErrClosedPipe
	}
	return len(p), nil
}

// TestScrapeFails: what cannot be gathered is an error, and what is cut short does not
// end as if it were whole.
func TestScrapeFails(t *testing.T) {
	t.Parallel()
	d := newFleet(t, 1)
	web := d.webServer().Handler
	for _, encoding := range []string{"", "gzip"} {
		r := httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil)
		r.Header.Set("Accept-Encoding", encoding)
		func() {
			defer func() {
				if err, _ := recover().(error); !errors.Is(err, http.ErrAbortHandler) {
					t.Errorf("encoding %q: %v", encoding, err)
				}
			}()
			web.ServeHTTP(&broken{httptest.NewRecorder(), 100}, r)
		}()
	}
	bad := prometheus.NewDesc("spinecert_bad", "Cannot be gathered.", nil, nil)
	d.metrics.registry.MustRegister(invalid{bad})
	w := httptest.NewRecorder()
	web.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "http://localhost/metrics", nil))
	if w.Code != http.StatusInternalServerError || !strings.Contains(w.Body.String(), "out of order") || strings.Contains(w.Body.String(), "spinecert_slot_ready") {
		t.Errorf("%d %s", w.Code, w.Body)
	}
}

type invalid struct{ desc *prometheus.Desc }

func (i invalid) Describe(c chan<- *prometheus.Desc) { c <- i.desc }

func (i invalid) Collect(c chan<- prometheus.Metric) {
	c <- prometheus.NewInvalidMetric(i.desc, errors.New("out of order"))
}
