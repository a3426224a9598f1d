package daemon

import (
	"context"
	"os"
	"time"

	"github.com/spinecert/spinecert/internal/admin"
	"github.com/spinecert/spinecert/internal/doctor"
)

// examLimit bounds one examination: the admin server gives an answer no longer.
const examLimit = 2 * time.Minute

// examine looks at what only the daemon has: trust and identities in force, its user,
// its routes, and both ends of its tunnels. Whoever may read may ask: it connects to
// nothing that is not configured, or named by a certificate that passed and by
// crl.hosts, and one is made at a time.
func (d *Daemon) examine(ctx context.Context, r admin.DoctorRequest) (admin.DoctorResult, error) {
	limit := examLimit
	if asked := time.Duration(r.TimeoutMS) * time.Millisecond; r.TimeoutMS > 0 && r.TimeoutMS < limit.Milliseconds() {
		limit = asked
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case d.exams <- struct{}{}:
		defer func() { <-d.exams }()
	case <-ctx.Done():
		return admin.DoctorResult{}, &admin.Error{Code: admin.CodeFailed, Message: "another examination went on all the time", Hint: "try again"}
	}
	now := time.Now()
	requests, _ := d.manager.RequestStatus(now) // what cannot be read of them is found in the state directory
	in := doctor.Inside{
		Now: now, Config: d.currentConfig(), UID: os.Geteuid(), Directory: d.store.Directory,
		Environments: d.keeper.Environments(), Slots: d.keeper.Slots(), Requests: requests,
	}
	for _, t := range d.liveTunnels() {
		st := d.tunnelStatus(t)
		in.Tunnels = append(in.Tunnels, doctor.Wired{Config: t.config, State: st.State, LastError: st.LastError, Listen: st.Listen, Endpoint: t.binding})
	}
	out := admin.DoctorResult{Lines: []admin.DoctorLine{}}
	for _, l := range in.Examine(ctx) {
		out.Lines = append(out.Lines, admin.DoctorLine{Level: string(l.Level), Code: l.Code, Subject: l.Subject, Message: l.Message, Hint: l.Hint})
	}
	return out, nil
}
