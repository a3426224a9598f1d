package daemon

import (
	"github.com/spinecert/spinecert/internal/condition"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/manage"
)

// unseen reports whether something that was wrong, and was not found now, may still be so: it
// could not be looked at. A warning must not be told as over because its look failed.
func (d *Daemon) unseen(c *condition.Condition) bool {
	switch c.Kind {
	case condition.Slot:
		return d.unseenSlot(c)
	case condition.Environment:
		if beyond := d.alerts.beyond.Load(); beyond != nil && (*beyond)[c.ID] {
			return true // it is one of those that are only counted
		}
		for _, e := range d.keeper.Environments() {
			if e.Name() == c.Subject {
				return e.Trust() == nil && c.Code != condition.RotationRefused && c.Code != condition.TrustChanged
			}
		}
	case condition.Service:
		for _, st := range d.services.Status() {
			if st.Config.Name == c.Subject {
				return st.State == deliver.Delivering // whether that helps is not known yet
			}
		}
	}
	return false
}

// unseenSlot is unseen for slots: of one that has nothing to serve, only that is known.
func (d *Daemon) unseenSlot(c *condition.Condition) bool {
	s := d.keeper.Slot(c.Subject)
	if s == nil {
		return false
	}
	switch c.Code {
	case condition.RequestPending:
		return d.manager.Unread() != nil
	case condition.Expiring, condition.Expired, condition.WeakAlgorithm, condition.G1Chain, condition.OwnCertificateRevoked:
		return s.Snapshot() == nil
	}
	return false
}

// requestsUnread tells that requests could not be read: nobody is reminded of them.
func (d *Daemon) requestsUnread(add adder) {
	if err := d.manager.Unread(); err != nil {
		add(condition.Condition{Code: condition.StateUnwritable, Kind: condition.Host, Subject: condition.State, Severity: condition.Warning,
			Message: "requests that wait cannot be read, and nobody is reminded of them: " + manage.Clip(oneLine(err)),
			Hint:    "see spinecert doctor; restore them from a backup of the state directory, or ask again with spinecert csr new"}, "requests")
	}
}
