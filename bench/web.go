package main

import (
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"regexp"
	"strconv"
	"strings"
	"time"
)

const (
	// scrapeName, alertsName and pageName select the figures of this file in -only.
	scrapeName = "scrape"
	alertsName = "alerts"
	pageName   = "page"
	// pageSlots is how many slots the status page is measured with.
	pageSlots = 1000
	// freshPage is when a page is made anew, and not shown again as it was.
	freshPage = 300 * time.Millisecond
	// webLimit is when a request has failed.
	webLimit = 30 * time.Second
)

// everyLeaf makes the end of every certificate an alert: they are valid for 365 days.
const everyLeaf = "alerts: {expiry: {leaf: [400d, 30d, 7d]}}\n"

// watched is a daemon with admin.http, at rest.
type watched struct {
	*instance
	url    string
	client *http.Client
}

// rarely has the files of a slot be looked at once a day, if nothing was reported of them.
func rarely(config string) string {
	return strings.ReplaceAll(config, ".key}}\n", ".key}, watch: {poll: 1d}}\n")
}

// alerting has every slot have an alert.
func alerting(config string) string { return everyLeaf + config }

// watch starts a daemon with n slots and a configuration that was changed, and returns once
// all is in the state directory and what a start does is over.
func (v *living) watch(ctx context.Context, n int, changes ...func(string) string) (*watched, error) {
	of, err := v.crowd(ctx, n)
	if err != nil {
		return nil, err
	}
	addrs, err := freeAddrs(1)
	if err != nil {
		return nil, err
	}
	c := *of
	c.daemon.config = strings.Replace(c.daemon.config, "admin:\n", fmt.Sprintf("admin:\n  http: {listen: %q}\n", addrs[0]), 1)
	for _, change := range changes {
		c.daemon.config = change(c.daemon.config)
	}
	in, _, err := c.start(ctx)
	if err != nil {
		return nil, err
	}
	w := &watched{in, "http://" + addrs[0], &http.Client{Timeout: webLimit, Transport: &http.Transport{DisableCompression: true}}}
	if err = c.saved(ctx); err == nil {
		err = sleep(ctx, atRest)
	}
	if err != nil {
		w.stop()
		return nil, err
	}
	return w, nil
}

func (w *watched) stop() {
	w.client.CloseIdleConnections()
	w.instance.stop()
}

// answer is what came back, and how long that took.
type answer struct {
	status int
	body   []byte // as it came
	took   time.Duration
}

func (w *watched) ask(ctx context.Context, path, encoding string) (answer, error) {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, w.url+path, nil)
	if err != nil {
		return answer{}, err
	}
	if encoding != "" {
		req.Header.Set("Accept-Encoding", encoding)
	}
	begun := time.Now()
	res, err := w.client.Do(req)
	if err != nil {
		return answer{}, fmt.Errorf("%w%s", err, w.tail())
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err == nil && res.Header.Get("Content-Encoding") != encoding {
		err = fmt.Errorf("GET %s: Content-Encoding %q, not %q", path, res.Header.Get("Content-Encoding"), encoding)
	}
	return answer{res.StatusCode, body, time.Since(begun)}, err
}

// scrapes measures scrapes of a daemon with many slots, as Prometheus makes them, and
// without compression.
func (v *living) scrapes(ctx context.Context) error {
	w, err := v.watch(ctx, v.sizes.slots)
	if err != nil {
		return err
	}
	defer w.stop()
	for _, encoding := range []string{"gzip", ""} {
		if err := v.scrapesOf(ctx, w, encoding); err != nil {
			return err
		}
	}
	return nil
}

func (v *living) scrapesOf(ctx context.Context, w *watched, encoding string) error {
	var took []float64
	var first, last scraped
	used, err := cpuOf(ctx, w.instance, func() error {
		for i := range v.sizes.scrapes + 1 { // the first only says where the count of bytes begins
			a, err := w.ask(ctx, "/metrics", encoding)
			if err != nil {
				return err
			}
			if last, err = readScrape(a, encoding); err != nil {
				return err
			}
			if i == 0 {
				first = last
			} else {
				took = append(took, milliseconds(a.took))
			}
		}
		return nil
	})
	if err != nil {
		return err
	}
	how, n := "as Prometheus asks, with gzip", float64(len(took))
	if encoding == "" {
		how = "without compression"
	}
	v.fact(fmt.Sprintf("scrape of %d slots, %s, median of %d", v.sizes.slots, how, len(took)), median(took), "ms", 150, 1)
	v.fact("the same, p99", quantile(took, 0.99), "ms", 150, 1)
	v.fact("ratio of the median to the target", median(took)/150, "", noTarget, 2)
	v.fact("CPU of one", milliseconds(used)/(n+1), "ms", noTarget, 1)
	v.fact("allocated for one", (last.allocated-first.allocated)/n/1e6, "MB", 25, 1)
	v.fact("its text", last.size/1e6, "MB", noTarget, 1)
	v.fact("bytes on the wire", last.wire/1e6, "MB", noTarget, 2)
	return nil
}

// scraped is what a scrape says. allocated counts from the start of the process.
type scraped struct{ allocated, size, wire float64 }

var allocatedLine = regexp.MustCompile(`(?m)^go_memstats_alloc_bytes_total (\S+)$`)

func readScrape(a answer, encoding string) (scraped, error) {
	text := a.body
	if encoding == "gzip" {
		z, err := gzip.NewReader(strings.NewReader(string(a.body)))
		if err == nil {
			text, err = io.ReadAll(z)
		}
		if err != nil {
			return scraped{}, fmt.Errorf("read scrape: %w", err)
		}
	}
	found := allocatedLine.FindSubmatch(text)
	if a.status != http.StatusOK || found == nil {
		return scraped{}, fmt.Errorf("scrape: status %d, %d bytes, without the count of allocated bytes", a.status, len(text))
	}
	allocated, err := strconv.ParseFloat(string(found[1]), 64)
	return scraped{allocated, float64(len(text)), float64(len(a.body))}, err
}

// alerts measures what a daemon with many slots takes at rest: with an alert of each, with
// nothing to tell of any, and without the looks at their files.
func (v *living) alerts(ctx context.Context) error {
	for _, kind := range []struct {
		what    string
		active  int
		changes []func(string) string
	}{
		{"an alert of each", v.sizes.slots, []func(string) string{alerting}},
		{"no alert of any", 0, nil},
		{"an alert of each, and watch.poll 1d", v.sizes.slots, []func(string) string{alerting, rarely}},
	} {
		if err := v.resting(ctx, kind.what, kind.active, kind.changes); err != nil {
			return fmt.Errorf("%s: %w", kind.what, err)
		}
	}
	return nil
}

func (v *living) resting(ctx context.Context, what string, active int, changes []func(string) string) error {
	w, err := v.watch(ctx, v.sizes.slots, changes...)
	if err != nil {
		return err
	}
	defer w.stop()
	a, err := w.ask(ctx, "/metrics?name[]=spinecert_condition_active", "")
	if err != nil {
		return err
	}
	if n := strings.Count(string(a.body), "\nspinecert_condition_active{condition=\"expiring\""); n != active {
		return fmt.Errorf("%d slots are to be told of, want %d", n, active)
	}
	before, err := w.cpu()
	if err != nil {
		return err
	}
	if err := sleep(ctx, v.sizes.rest); err != nil {
		return err
	}
	after, err := w.cpu()
	if err != nil {
		return err
	}
	m, err := w.memory()
	if err != nil {
		return err
	}
	v.fact(fmt.Sprintf("%d slots at rest, %s, CPU over %s", v.sizes.slots, what, v.sizes.rest), 100*(after-before).Seconds()/v.sizes.rest.Seconds(), "% of a core", 1, 2)
	v.fact("resident memory", float64(m.rss)/1e6, "MB", noTarget, 1)
	return nil
}

// errNoPage is of a daemon that has no status page.
var errNoPage = errors.New("GET / of admin.http is 404: this spinecertd has no status page")

// page measures the status page.
func (v *living) page(ctx context.Context) error {
	return errors.Join(v.pages(ctx, "no alert of any"), v.pages(ctx, "an alert of each", alerting))
}

func (v *living) pages(ctx context.Context, what string, changes ...func(string) string) error {
	w, err := v.watch(ctx, pageSlots, changes...)
	if err != nil {
		return err
	}
	defer w.stop()
	var took []float64
	var a answer
	for range v.sizes.scrapes / 2 {
		if err := sleep(ctx, freshPage); err != nil {
			return err
		}
		if a, err = w.ask(ctx, "/", ""); err != nil {
			return err
		}
		if a.status == http.StatusNotFound {
			return errNoPage
		}
		if a.status != http.StatusOK || !strings.Contains(string(a.body), "slot-0") {
			return fmt.Errorf("GET /: status %d, %d bytes, without a slot", a.status, len(a.body))
		}
		took = append(took, milliseconds(a.took))
	}
	v.fact(fmt.Sprintf("page of %d slots, %s, median of %d", pageSlots, what, len(took)), median(took), "ms", 100, 1)
	v.fact("the same, p99", quantile(took, 0.99), "ms", 100, 1)
	v.fact("its size", float64(len(a.body))/1e6, "MB", noTarget, 2)
	return nil
}
