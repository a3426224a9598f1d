package daemon

import (
	"cmp"
	"fmt"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/deliver/failure"
)

// longDelivery is how long a delivery may go on, or wait, before it is a condition.
const longDelivery = time.Hour

// serviceCondition is what is wrong with a service.
func serviceCondition(st *deliver.Status, now time.Time, add adder) {
	name := st.Config.Name
	c := condition.Condition{Code: condition.ServiceFailed, Kind: condition.Service, Subject: name, Severity: urgency(st, now), Since: st.Since, Ends: condition.Moment{Time: st.Proved.Ends}}
	switch st.State {
	case deliver.InSync:
	case deliver.Delivering:
		if now.Sub(st.Since) < longDelivery || st.Window { // which ends by itself
			return
		}
		text := cmp.Or(st.Waits, "goes on, and does not end")
		if st.Waits != "" && !strings.HasPrefix(st.Waits, "waits") {
			text = "waits: " + st.Waits
		}
		c.Message, c.Hint, c.Command = fmt.Sprintf("its delivery %s; %s", text, standing(st)), cmp.Or(st.Hint, "spinecert services says how all of them stand"), "spinecert services"
		add(c, "")
	default:
		text := fmt.Sprintf("%s: %s failed (%s): %s", standing(st), st.Step, st.Reason, st.Error)
		if st.State == deliver.Held {
			text = fmt.Sprintf("generation %d is held; %s", st.Desired.Generation, text)
		}
		c.Message, c.Hint = text, thenDeliver(st.Hint, name)
		add(c, "")
	}
}

// standing says what a service should serve and what it does serve.
func standing(st *deliver.Status) string {
	it := "its slot has nothing to deliver, and it"
	if st.Desired.Generation != 0 {
		it = fmt.Sprintf("it should serve generation %d and", st.Desired.Generation)
	}
	switch served, seen := serves(st); {
	case away(st):
		return it + " does not answer"
	case !seen:
		return it + " was not seen to serve anything"
	case served.Generation == 0:
		return it + " serves another certificate"
	case served.Generation != st.Desired.Generation:
		return fmt.Sprintf("%s serves generation %d", it, served.Generation)
	case served.Digest != st.Desired.Digest: // its trust or its CRLs are others
		return it + " serves it with other files than its slot has now"
	}
	return it + " serves it, but not as it should"
}

// serves is what a service serves, as far as that is known: of one that is not asked it
// is what was proved by its reload.
func serves(st *deliver.Status) (deliver.Version, bool) {
	if len(st.Config.Probes) == 0 {
		return st.Proved, st.Proved.Digest != ""
	}
	return st.Served, st.Served.Leaf != ""
}

// away reports whether the service was not there when it was looked at last.
func away(st *deliver.Status) bool {
	return st.Reason == failure.Unreachable || st.Reason == failure.UnitInactive
}

// urgency is critical where what was proved does not serve, or ends soon.
func urgency(st *deliver.Status, now time.Time) condition.Severity {
	served, seen := serves(st)
	switch {
	case st.Proved.Digest == "", st.Step == deliver.StepUndo, away(st) && st.State == deliver.Failed,
		seen && served.Leaf != st.Proved.Leaf, !st.Proved.Ends.IsZero() && st.Proved.Ends.Sub(now) <= expiringCritical:
		return condition.Critical
	}
	return condition.Warning
}
