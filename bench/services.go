package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"
)

const (
	// servicesName selects the figures of this file in -only.
	servicesName = "services"
	// fed is how many services one slot feeds.
	fed = 20
	// fixedReload is when a command returns that reloads and waits.
	fixedReload = 300 * time.Millisecond
)

// services is what a run found out about local services.
type services struct {
	facts []fact
	load  string // load average when it began
}

// feeding is what the figures of services share.
type feeding struct {
	*lab
	daemon proxy
	nginx  *proxy // nil: not installed
	out    *services
}

// services takes the figures of services. What could be taken is returned also when
// something could not.
func (l *lab) services(ctx context.Context, found []proxy) (*services, error) {
	p, ok := findProxy(found, spinecertName)
	if !ok {
		return nil, fmt.Errorf("measure services: %s is missing", spinecertName)
	}
	f := &feeding{lab: l, daemon: p, out: &services{load: firstWords("/proc/loadavg", 3)}}
	takes := []func(context.Context) error{f.idle}
	if n, ok := findProxy(found, baselineName); ok {
		f.nginx = &n
		takes = []func(context.Context) error{f.twenty, f.fixed, f.single, f.idle}
	}
	var problems []error
	for _, take := range takes {
		if err := take(ctx); err != nil {
			problems = append(problems, fmt.Errorf("measure services: %w", err))
		}
		if ctx.Err() != nil {
			break
		}
	}
	return f.out, errors.Join(problems...)
}

func (f *feeding) fact(title string, value float64, unit string, target float64, places int) {
	fmt.Fprintf(f.progress, "%-60s %s\n", title, amount(value, places, unit))
	f.out.facts = append(f.out.facts, fact{title, value, unit, target, places})
}

// section renders the figures.
func (r *services) section(b *strings.Builder) {
	fmt.Fprintf(b, "Load average before: %s. One slot; a rotation lasts from the rename that completes its pair until spinecertd has told that the last service is proved, with three handshakes in a row. "+
		"The nginx are %d masters with a worker each, told by SIGHUP. By hand is the same nginx, with two files renamed and a SIGHUP, until no look shows the old certificate any more; "+
		"looks come every %s. The command that returns after %s sends the same SIGHUP and sleeps.\n\n",
		r.load, fed, lookEvery, fixedReload)
	factTable(b, r.facts)
}

// over returns by how much each of a exceeds what stands beside it in b.
func over(a, b []float64) []float64 {
	out := make([]float64, min(len(a), len(b)))
	for i := range out {
		out[i] = a[i] - b[i]
	}
	return out
}
