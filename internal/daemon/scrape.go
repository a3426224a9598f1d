package daemon

import (
	"slices"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"
)

// Ten thousand slots are 80,000 series. A prometheus.Collector makes each by itself,
// sends it over a channel, hashes and sorts it; that is most of a scrape. So facts
// are gathered beside the registry, in the form that both hand to the encoder. That
// each series is there once is for facts.go to see to.

// family is the series of one name.
type family struct {
	name, help string
	kind       dto.MetricType
	labels     []string // sorted
}

func gauges(name, help string, labels ...string) *family {
	return &family{namespace + "_" + name, help, dto.MetricType_GAUGE, labels}
}

// gathering is one scrape.
type gathering struct {
	families map[*family]*dto.MetricFamily
	room     []series // for those to come
	slots    int      // how many there are, or will be soon
	pairs    map[[2]string]*dto.LabelPair
}

// series is all of a series but its labels, as one piece of memory.
type series struct {
	metric dto.Metric
	gauge  dto.Gauge
	value  float64
}

// seriesAtOnce is how many series are made with one piece of memory.
const seriesAtOnce = 256

func newGathering(slots int) *gathering {
	return &gathering{slots: slots, families: map[*family]*dto.MetricFamily{}, pairs: map[[2]string]*dto.LabelPair{}}
}

// label returns a label that may be used for many series.
func label(name, value string) *dto.LabelPair { return &dto.LabelPair{Name: &name, Value: &value} }

// common returns a label whose value is one of a few.
func (g *gathering) common(name, value string) *dto.LabelPair {
	p := g.pairs[[2]string{name, value}]
	if p == nil {
		p = label(name, value)
		g.pairs[[2]string{name, value}] = p
	}
	return p
}

// add adds a series. labels are in the order of f.labels, and are not changed any more.
func (g *gathering) add(f *family, value float64, labels ...*dto.LabelPair) {
	if len(g.room) == 0 {
		g.room = make([]series, seriesAtOnce)
	}
	s := &g.room[0]
	g.room = g.room[1:]
	s.value, s.metric.Label = value, labels
	if f.kind == dto.MetricType_COUNTER {
		s.metric.Counter = &dto.Counter{Value: &s.value} // there are few
	} else {
		s.gauge.Value = &s.value
		s.metric.Gauge = &s.gauge
	}
	mf := g.families[f]
	if mf == nil {
		mf = &dto.MetricFamily{Name: &f.name, Help: &f.help, Type: &f.kind}
		if slices.Contains(f.labels, "slot") {
			mf.Metric = make([]*dto.Metric, 0, g.slots)
		}
		g.families[f] = mf
	}
	mf.Metric = append(mf.Metric, &s.metric)
}

// Gather implements prometheus.TransactionalGatherer. There is nothing to end.
func (f facts) Gather() (_ []*dto.MetricFamily, done func(), err error) {
	g := newGathering(len(f.d.keeper.Slots()))
	f.collect(g)
	out := make([]*dto.MetricFamily, 0, len(g.families))
	for _, mf := range g.families {
		out = append(out, mf) // sorted where they are joined with those of the registry
	}
	return out, func() {}, nil
}

// gatherer returns all series of the daemon.
func (d *Daemon) gatherer() prometheus.TransactionalGatherer {
	return prometheus.NewMultiTRegistry(prometheus.ToTransactionalGatherer(d.metrics.registry), facts{d})
}
