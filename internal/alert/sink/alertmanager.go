package sink

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/alert"
	"github.com/spinecert/spinecert/internal/condition"
)

const (
	batch     = 500             // alerts in one request
	holds     = 5 * time.Minute // how long Alertmanager believes in what it was shown
	testHolds = time.Minute     // the same for a test
)

// alertmanager shows what is active to an Alertmanager, by its API v2.
type alertmanager struct {
	far  endpoint
	host string
	now  func() time.Time
}

// posted is an alert as the API takes it.
type posted struct {
	Labels      map[string]string `json:"labels"`
	Annotations map[string]string `json:"annotations"`
	StartsAt    time.Time         `json:"startsAt"`
	EndsAt      time.Time         `json:"endsAt"`
}

// Show sends what ended, then what is active, which holds for five minutes. What Alertmanager rejects does not keep the rest from it; any other failure
// ends the attempt.
func (a *alertmanager) Show(ctx context.Context, active, resolved []alert.Notice) error {
	if len(active)+len(resolved) == 0 {
		return nil
	}
	f, err := a.far.open()
	if err != nil {
		return err
	}
	defer f.close()
	f.public = f.url.RawQuery == "" // a path is where it stands behind a proxy
	now := a.now()
	address := f.url.JoinPath("api", "v2", "alerts")
	var errs []error
	for begin, total := 0, len(resolved)+len(active); begin < total; begin += batch {
		list := make([]posted, 0, batch)
		for i := begin; i < min(begin+batch, total); i++ {
			if i < len(resolved) {
				list = append(list, a.ended(&resolved[i], now))
			} else {
				list = append(list, a.active(&active[i-len(resolved)], now))
			}
		}
		body, err := json.Marshal(list)
		if err != nil {
			return failed("write the alerts as JSON", err, nil)
		}
		if err := f.post(ctx, address, body, nil); err != nil {
			errs = append(errs, err)
			if !rejected(err) {
				break
			}
		}
	}
	if len(errs) == 0 {
		return nil
	}
	first := errs[0]
	var e *Error
	if len(errs) > 1 && errors.As(first, &e) {
		more := *e
		more.text += "; and " + plural(len(errs)-1, "other request")
		return &more
	}
	return first
}

func (a *alertmanager) active(n *alert.Notice, now time.Time) posted {
	n = ptr(tidyNotice(n))
	p := posted{Labels: a.labels(n), Annotations: annotations(n, now), StartsAt: n.Opened, EndsAt: now.Add(holds)}
	if n.Event == alert.Test {
		p.EndsAt = now.Add(testHolds)
	}
	return p.inOrder(now)
}

func (a *alertmanager) ended(n *alert.Notice, now time.Time) posted {
	n = ptr(tidyNotice(n))
	end := n.Resolved.Time
	if end.IsZero() { // the severity changed: what had the old one is over
		end = n.At
	}
	if end.IsZero() || end.After(now) {
		end = now
	}
	return posted{Labels: a.labels(n), Annotations: annotations(n, end), StartsAt: n.Opened, EndsAt: end}.inOrder(now)
}

// inOrder makes times that Alertmanager takes: it rejects an alert that ends before it starts, as after a clock was put back.
func (p posted) inOrder(now time.Time) posted {
	if p.StartsAt.IsZero() {
		p.StartsAt = now
	}
	if p.StartsAt.After(p.EndsAt) {
		p.StartsAt = p.EndsAt
	}
	p.StartsAt, p.EndsAt = p.StartsAt.UTC(), p.EndsAt.UTC()
	return p
}

// labels tell alerts apart. The severity is one of them, as routes go by it: when it changes, the alert with the old one ends.
func (a *alertmanager) labels(n *alert.Notice) map[string]string {
	c := &n.Condition
	name := alertName(c.Code)
	if n.Event == alert.Test {
		name = "SpinecertTest"
	}
	return filled(map[string]string{
		"alertname": name, "code": string(c.Code), "kind": string(c.Kind), "subject": c.Subject, "slot": c.Slot,
		"severity": cmp.Or(string(c.Severity), string(condition.Warning)), "instance": a.host, "id": c.ID,
	})
}

func annotations(n *alert.Notice, now time.Time) map[string]string {
	c := &n.Condition
	if n.Event == alert.Test {
		return filled(map[string]string{"summary": "nothing is wrong, alerts get through", "description": c.Message})
	}
	return filled(map[string]string{
		"summary": about(c) + title(c, now, n.Active()), "description": c.Message, "affects": affects(c.Affects), "stops": cmp.Or(c.Stops, impact(c)), "ends": stamp(c.Ends.Time),
		"action": cmp.Or(c.Hint, c.Code.Definition().Action), "command": c.Command, "acknowledged": seen(n.Ack), "runbook": c.Runbook,
	})
}

// alertName is a code as the names of alerts are written: SpinecertExpiring, SpinecertCRLStale.
func alertName(code condition.Code) string {
	var b strings.Builder
	b.WriteString("Spinecert")
	for word := range strings.SplitSeq(string(code), "_") {
		switch word {
		case "ca", "crl":
			b.WriteString(strings.ToUpper(word))
		case "":
		default:
			b.WriteString(strings.ToUpper(word[:1]) + word[1:])
		}
	}
	return b.String()
}

// filled leaves out what is empty, as Alertmanager does.
func filled(m map[string]string) map[string]string {
	for key, value := range m {
		if value == "" {
			delete(m, key)
		}
	}
	return m
}

func ptr[T any](v T) *T { return &v }
