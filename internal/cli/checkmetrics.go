package cli

import (
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"github.com/spinecert/spinecert/internal/durable"
)

// outputTextfile is a value of --output that check alone has.
const outputTextfile = "textfile"

// textfileEnd is the end of the names that the textfile collector reads.
const textfileEnd = ".prom"

// The series of a check. Statuses are the numbers of [pluginStatus].
const (
	metricCondition = "spinecert_check_condition_active"
	metricLastRun   = "spinecert_check_last_run_timestamp_seconds"
	metricNotAfter  = "spinecert_check_not_after_timestamp_seconds"
	metricResult    = "spinecert_check_result"
	metricStatus    = "spinecert_check_status"
)

// metricHelp is what is said of each: it has to be the same in all files that one collector reads.
var metricHelp = map[string]string{
	metricCondition: "Something that is wrong: 1, and no series when it is not.",
	metricLastRun:   "When the check was made.",
	metricNotAfter:  "When it ends: the first to end of its certificates, as it was seen last.",
	metricResult:    "The worst status: 0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN.",
	metricStatus:    "0 OK, 1 WARNING, 2 CRITICAL, 3 UNKNOWN: it could not be looked at.",
}

// checkMetrics is a result of check in the format of node_exporter's textfile collector: by
// name, and by labels in braces.
type checkMetrics struct {
	about  string // a line for people
	series map[string]map[string]int64
}

// metrics makes series of a result. The worst of those with the same labels counts, and the first end.
func (r *checkResult) metrics(now int64) *checkMetrics {
	m := &checkMetrics{about: "SPINECERT " + r.Status.String() + " - " + r.Summary, series: map[string]map[string]int64{
		metricCondition: {}, metricNotAfter: {}, metricStatus: {},
		metricLastRun: {"": now}, metricResult: {"": int64(r.Status)},
	}}
	for i := range r.Items {
		item := &r.Items[i]
		at := labels("kind", item.Kind, "name", item.Name)
		switch {
		case item.Kind == checkUsage: // the result says it
			continue
		case item.Kind == checkCondition:
			m.series[metricCondition][labels("condition", item.Code, "severity", item.Status.word(), "subject", item.Name)] = 1
			continue
		}
		status := pluginStatus(m.series[metricStatus][at])
		m.series[metricStatus][at] = int64(worse(status, item.Status))
		if item.NotAfter.IsZero() || item.SecondsLeft == nil && item.Status == pluginOK { // nobody waits for its end
			continue
		}
		end, dated := m.series[metricNotAfter][at]
		if !dated || item.NotAfter.Unix() < end {
			end = item.NotAfter.Unix()
		}
		m.series[metricNotAfter][at] = end
	}
	return m
}

// labels writes names and values as the format has them. Certificates and peers choose values:
// nothing in them ends a line or is read as HTML.
func labels(pairs ...string) string {
	var parts []string
	for i := 0; i < len(pairs); i += 2 {
		value := shorten(plain(pairs[i+1], maxInput), maxMetricLabel)
		parts = append(parts, pairs[i]+`="`+strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(value)+`"`)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// show writes the format; every name in it is ours, and every value went through labels.
func (m *checkMetrics) show(p *page) {
	p.line("# %s", m.about)
	for _, name := range slices.Sorted(maps.Keys(m.series)) {
		if len(m.series[name]) == 0 {
			continue
		}
		p.raw("# HELP " + name + " " + metricHelp[name] + "\n# TYPE " + name + " gauge")
		for _, at := range slices.Sorted(maps.Keys(m.series[name])) {
			p.raw(fmt.Sprintf("%s%s %d", name, at, m.series[name][at]))
		}
	}
}

// publish is the outcome of a check whose metrics are wanted: they stand in the file of
// --output-file, else on stdout. How things stand is in them, and the exit status says only
// whether they were written: what ends soon must not fail the timer that says so.
func (o *checkOptions) publish(r *checkResult) (report, error) {
	m := r.metrics(o.now.Unix())
	if r.missed(checkSlot) {
		for _, slot := range o.slots {
			m.series[metricStatus][labels("kind", checkSlot, "name", slot)] = int64(pluginUnknown)
		}
	}
	if o.outputFile == "" {
		return m, nil
	}
	before, err := readRegular(o.outputFile)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return unknown(err)
	}
	m.keep(r, parseMetrics(string(before)), len(o.slots) > 0)
	p := &page{}
	m.show(p)
	if err := durable.Replace(o.outputFile, p.buffer.Bytes(), 0o644); err != nil { // node_exporter is another user
		return unknown(unwritten(o.outputFile, err))
	}
	return r, nil
}

// unwritten is an error of the file of metrics.
func unwritten(name string, err error) *exitError {
	var pe *fs.PathError
	if errors.As(err, &pe) {
		err = pe.Err
	}
	f := failed(codeFailed, fmt.Errorf("write %q: %w", name, err))
	dir := quoted(filepath.Dir(name))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		f.hint = "is the directory right? ls -ld " + dir
	case errors.Is(err, fs.ErrPermission):
		f.hint = "the user who runs this has to own the directory: ls -ld " + dir
	case errors.Is(err, syscall.EROFS):
		f.hint = "in a unit ReadWritePaths= has to name the directory: " + dir
	}
	return f
}

// missed reports whether a look that should have said something of items of this kind failed.
func (r *checkResult) missed(kind string) bool {
	return slices.ContainsFunc(r.Items, func(i checkItem) bool { return slices.Contains(i.unseen, kind) })
}

// keep adds what an earlier run saw of that which this one could not look at. A series that
// is gone is no alert: it would end because the look failed. named says that the slots were.
func (m *checkMetrics) keep(r *checkResult, earlier *checkMetrics, named bool) {
	for i := range r.Items {
		item := &r.Items[i]
		at := labels("kind", item.Kind, "name", item.Name)
		if end, dated := earlier.series[metricNotAfter][at]; dated && item.failed && item.NotAfter.IsZero() {
			m.series[metricNotAfter][at] = end
		}
	}
	for at := range earlier.series[metricStatus] {
		kind := kindOf(at)
		_, now := m.series[metricStatus][at]
		if !r.missed(kind) || named && !now {
			continue
		}
		m.series[metricStatus][at] = int64(pluginUnknown)
		if end, dated := earlier.series[metricNotAfter][at]; dated {
			m.series[metricNotAfter][at] = end
		}
	}
	if r.missed(checkCondition) {
		maps.Copy(m.series[metricCondition], earlier.series[metricCondition])
	}
}
