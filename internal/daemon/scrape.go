package daemon

import (
	"bufio"
	"compress/gzip"
	"io"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"unicode/utf8"

	dto "github.com/prometheus/client_model/go"
	"github.com/prometheus/common/expfmt"
)

// Ten thousand slots are 100,000 series. Built one by one for the encoder of the
// Prometheus client they took most of a scrape, and 46 MB. So what facts.go reads is
// written as text at once, between the families that are counted in the registry, which
// the client encodes. That each series is there once is for facts.go to see to.

// family is the series of one name.
type family struct {
	name, help string
	kind       string
	labels     []string // sorted
	each       func(*scrape, *series)
}

// fact returns the gauges of one name; each adds them.
func fact(name, help string, each func(*scrape, *series), labels ...string) family {
	return family{namespace + "_" + name, help, "gauge", labels, each}
}

// scrapeBuffer is how much is written at once.
const scrapeBuffer = 64 << 10

// serveMetrics answers a scrape in the text format, which every version of Prometheus
// takes, whatever else it prefers. All names are such that no client wants them escaped.
func (d *Daemon) serveMetrics(w http.ResponseWriter, r *http.Request) {
	counted, err := d.metrics.registry.Gather()
	if err != nil {
		http.Error(w, "cannot gather metrics: "+err.Error(), http.StatusInternalServerError)
		return
	}
	s := d.scrape()
	w.Header().Set("Content-Type", string(expfmt.FmtText))
	w.Header().Set("Vary", "Accept-Encoding")
	out, end := io.Writer(w), func() error { return nil }
	if acceptsGzip(r.Header) {
		w.Header().Set("Content-Encoding", "gzip")
		z, _ := gzip.NewWriterLevel(w, gzip.BestSpeed) // fails for levels that do not exist
		out, end = z, z.Close
	}
	b := bufio.NewWriterSize(out, scrapeBuffer)
	err = s.write(b, counted, r.URL.Query()["name[]"])
	if err == nil {
		err = b.Flush()
	}
	if err == nil {
		err = end()
	}
	if err != nil {
		panic(http.ErrAbortHandler) // what was cut short must not look whole
	}
}

// write writes the families of the registry, which are sorted, and our own, by name:
// those that are wanted, or all if none is named.
func (s *scrape) write(w *bufio.Writer, counted []*dto.MetricFamily, wanted []string) error {
	asked := func(name string) bool { return len(wanted) == 0 || slices.Contains(wanted, name) }
	l := &series{w: w}
	own := families[:]
	before := func(name string) {
		for ; len(own) > 0 && (name == "" || own[0].name < name); own = own[1:] {
			if asked(own[0].name) {
				l.begin(&own[0])
				own[0].each(s, l)
			}
		}
	}
	for _, mf := range counted {
		before(mf.GetName())
		if !asked(mf.GetName()) {
			continue
		}
		if _, err := expfmt.MetricFamilyToText(w, mf); err != nil {
			return err
		}
	}
	before("")
	return nil // errors of w stay with it
}

// series writes the lines of one family after the other.
type series struct {
	w      *bufio.Writer
	head   string   // not written before there is a line
	starts []string // what comes before the value of each label, or before the only value
}

func (l *series) begin(f *family) {
	l.head = "# HELP " + f.name + " " + f.help + "\n# TYPE " + f.name + " " + f.kind + "\n"
	l.starts = append(l.starts[:0], f.name+" ")
	for i, label := range f.labels {
		if i == 0 {
			l.starts[0] = f.name + "{" + label + `="`
		} else {
			l.starts = append(l.starts, `",`+label+`="`)
		}
	}
}

// add writes a line. values are those of the labels of the family, in their order.
func (l *series) add(value float64, values ...string) {
	if l.head != "" {
		_, _ = l.w.WriteString(l.head)
		l.head = ""
	}
	b := append(l.w.AvailableBuffer(), l.starts[0]...)
	for i, v := range values {
		if i > 0 {
			b = append(b, l.starts[i]...)
		}
		b = appendLabel(b, v)
	}
	if len(values) > 0 {
		b = append(b, `"} `...)
	}
	b = strconv.AppendFloat(b, value, 'g', -1, 64)
	_, _ = l.w.Write(append(b, '\n'))
}

// appendLabel appends the value of a label, escaped. One byte of a name in a certificate
// that is not UTF-8 would have the whole scrape refused.
func appendLabel(b []byte, v string) []byte {
	if !utf8.ValidString(v) {
		v = strings.ToValidUTF8(v, "\uFFFD")
	}
	for {
		i := strings.IndexAny(v, "\\\"\n")
		if i < 0 {
			return append(b, v...)
		}
		b = append(b, v[:i]...)
		if v[i] == '\n' {
			b = append(b, `\n`...)
		} else {
			b = append(b, '\\', v[i])
		}
		v = v[i+1:]
	}
}

// acceptsGzip reports whether a client takes gzip (RFC 9110, Section 12.5.3).
func acceptsGzip(h http.Header) bool {
	for _, field := range h.Values("Accept-Encoding") {
		for one := range strings.SplitSeq(field, ",") {
			coding, weight, _ := strings.Cut(one, ";")
			if !strings.EqualFold(strings.TrimSpace(coding), "gzip") {
				continue
			}
			q, weighted := strings.CutPrefix(strings.TrimSpace(weight), "q=")
			v, err := strconv.ParseFloat(q, 64)
			return !weighted || err == nil && v > 0
		}
	}
	return false
}
