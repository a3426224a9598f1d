package alert_test

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
)

const oneDay = 24 * time.Hour

// diary is a sink that writes down what it is told, with the day since the beginning. It
// can be down.
type diary struct {
	mu    sync.Mutex
	begin time.Time
	down  bool
	lines []string
	ids   map[string]int
}

func (d *diary) Send(_ context.Context, m *alert.Message) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.down {
		return errors.New("the relay does not answer")
	}
	if d.ids == nil {
		d.ids = map[string]int{}
	}
	d.ids[m.ID]++
	for _, n := range m.Notices {
		line := fmt.Sprintf("%d %s %s %s", int(time.Since(d.begin)/oneDay), n.Event, n.Condition.Code, n.Condition.Severity)
		if n.Late {
			line += " late"
		}
		if n.Event == alert.Resolved {
			line = fmt.Sprintf("%d %s %s", int(time.Since(d.begin)/oneDay), n.Event, n.Condition.ID)
		}
		d.lines = append(d.lines, line)
	}
	return nil
}

func (d *diary) setDown(down bool) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.down = down
}

func (d *diary) take() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	lines := d.lines
	d.lines = nil
	return lines
}

// world is a host with one slot, whose certificate ends some day, and perhaps a request.
type world struct {
	mu      sync.Mutex
	end     time.Time // of the certificate
	request time.Time // since when one waits
	failed  bool      // a service fails
	suspect bool
	shift   time.Duration // of the clock that cannot be believed
}

func (w *world) change(f func()) {
	w.mu.Lock()
	defer w.mu.Unlock()
	f()
}

var lives = []time.Duration{90 * oneDay, 30 * oneDay, 14 * oneDay, 7 * oneDay, oneDay}

// look is what internal/daemon would find, in small.
func (w *world) look(now time.Time) ([]condition.Condition, bool) {
	w.mu.Lock()
	defer w.mu.Unlock()
	now = now.Add(w.shift)
	var out []condition.Condition
	add := func(c condition.Condition, detail string) {
		c.Complete(detail)
		out = append(out, c)
	}
	if left := w.end.Sub(now); left <= lives[0] {
		c := condition.Condition{Code: condition.Expiring, Kind: condition.Slot, Subject: "pcs", Slot: "pcs", Severity: condition.Warning, Ends: condition.Moment{Time: w.end}, Message: "ends"}
		for _, l := range lives {
			c.Steps = append(c.Steps, w.end.Add(-l))
		}
		c.Steps = append(c.Steps, w.end)
		if left <= 7*oneDay {
			c.Severity = condition.Critical
		}
		if left <= 0 {
			c.Code = condition.Expired
		}
		add(c, "")
	}
	if !w.request.IsZero() {
		add(condition.Condition{Code: condition.RequestPending, Kind: condition.Slot, Subject: "pcs", Slot: "pcs", Severity: condition.Warning, Since: w.request,
			Steps: []time.Time{w.request.Add(14 * oneDay), w.request.Add(28 * oneDay)}, Message: "waits"}, "0123456789abcdef")
	}
	if w.failed {
		add(condition.Condition{Code: condition.ServiceFailed, Kind: condition.Service, Subject: "nginx", Slot: "pcs", Severity: condition.Critical, Message: "failed"}, "")
	}
	if w.suspect {
		add(condition.Condition{Code: condition.ClockSuspect, Kind: condition.Host, Subject: condition.Clock, Severity: condition.Critical, Message: "jumped"}, "")
	}
	return out, w.suspect
}

// process is one life of a daemon.
type process struct {
	*alert.Engine
	stop func()
}

func silent() alert.Observer {
	return alert.Observer{Sent: func(string, string, int) {}, Failed: func(string, error) {}, Works: func(string) {}, Unreadable: func(error) {}, Unwritten: func(error) {}}
}

func start(file string, w *world, d *diary, repeat alert.Setting) *process {
	e := alert.New(alert.Options{File: file, Host: "gateway1", Every: time.Hour, Look: w.look, Tell: silent()})
	repeat.Sinks = []alert.Sink{{Name: "ops", Type: "email", Min: condition.Warning, Timeout: time.Minute, Key: "1", Sender: d}}
	e.Configure(repeat)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	go func() { defer close(done); _ = e.Run(ctx) }()
	return &process{e, func() { cancel(); <-done }}
}

// TestThreeYears: a certificate of three years from its first day to the day after its
// successor, with restarts, a relay that is down and a jump of the clock in between; twice,
// once with repeats and once without. What is told is exactly what is to be told.
func TestThreeYears(t *testing.T) {
	for name, tt := range map[string]struct {
		setting alert.Setting
		want    []string
	}{
		"without repeats": {alert.Setting{}, []string{
			"1005 opened expiring warning",
			"1066 escalated expiring warning",     // 30 days left on day 1065, when the relay was down
			"1069 opened request_pending warning", // after 14 days
			"1081 escalated expiring warning",     // 14 days left
			"1083 escalated request_pending warning",
			"1085 opened service_failed critical", "1085 resolved service_failed/service/nginx",
			"1088 escalated expiring critical", // 7 days left
			"1094 escalated expiring critical", // 1 day left
			"1095 escalated expired critical",  // over
			"1095 resolved expiring/slot/pcs", "1095 resolved request_pending/slot/pcs/0123456789abcdef",
		}},
		"with repeats": {alert.Setting{RepeatWarning: 30 * oneDay, RepeatCritical: oneDay}, []string{
			"1005 opened expiring warning",
			"1035 repeated expiring warning",
			"1066 escalated expiring warning",
			"1069 opened request_pending warning",
			"1081 escalated expiring warning",
			"1083 escalated request_pending warning",
			"1085 opened service_failed critical", "1085 resolved service_failed/service/nginx",
			"1088 escalated expiring critical",
			"1089 repeated expiring critical", "1090 repeated expiring critical", // then somebody acknowledges it for three days
			"1093 repeated expiring critical",
			"1094 escalated expiring critical",
			"1095 escalated expired critical",
			"1095 resolved expiring/slot/pcs", "1095 resolved request_pending/slot/pcs/0123456789abcdef",
		}},
	} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), alert.FileName)
			synctest.Test(t, func(t *testing.T) {
				begin := time.Now()
				d, w := &diary{begin: begin}, &world{end: begin.Add(1095 * oneDay)}
				p := start(file, w, d, tt.setting)
				var got []string
				day := func(n float64) {
					t.Helper()
					time.Sleep(time.Until(begin.Add(time.Duration(n * float64(oneDay)))))
					synctest.Wait()
				}
				restart := func() {
					p.stop()
					p = start(file, w, d, tt.setting)
					synctest.Wait()
				}
				for n := 100.5; n < 1000; n += 100 {
					day(n)
					restart()
				}
				day(1005.5)
				restart()
				day(1055.5)
				w.change(func() { w.request = begin.Add(1055 * oneDay) })
				day(1064.5)
				d.setDown(true)
				day(1065.5)
				restart() // what waits is in the file
				day(1066.1)
				d.setDown(false)
				day(1067.5)
				restart()
				day(1085.2)
				w.change(func() { w.failed = true })
				day(1085.3)
				restart()
				w.change(func() { w.failed = false })
				day(1085.31) // it is gone, and was there when the process before ended
				// The clock jumps ten years ahead: nothing ends for that, and back.
				w.change(func() { w.shift = 3650 * oneDay; w.suspect = true })
				day(1085.45)
				w.change(func() { w.shift = 0; w.suspect = false })
				day(1085.6)
				var clock []string
				for _, line := range d.take() {
					if strings.Contains(line, "clock_suspect") {
						clock = append(clock, line)
					} else {
						got = append(got, line)
					}
				}
				if diff := cmp.Diff([]string{"1085 opened clock_suspect critical", "1085 resolved clock_suspect/host/clock"}, clock); diff != "" {
					t.Errorf("of the jump (-want +got):\n%s", diff)
				}
				day(1090.5)
				if _, err := p.Ack("expiring/slot/pcs", alert.Ack{By: "anna", At: time.Now(), Until: time.Now().Add(60 * time.Hour)}); err != nil {
					t.Error(err)
				}
				restart()
				day(1095.9)
				w.change(func() { w.end = begin.Add(2190 * oneDay); w.request = time.Time{} })
				day(1096.5)
				restart()
				day(1097)
				p.stop()
				got = append(got, d.take()...)
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("told (-want +got):\n%s", diff)
				}
				for id, n := range d.ids {
					if n > 1 {
						t.Errorf("the message %s was sent %d times", id, n)
					}
				}
			})
		})
	}
}
