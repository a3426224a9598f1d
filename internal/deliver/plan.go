package deliver

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver/set"
)

// Plan says what Deliver would do, and does nothing. The error is ErrUnknown, or that of
// ctx: what keeps a delivery from being done is in the Plan.
func (m *Manager) Plan(ctx context.Context, name string) (Plan, error) {
	s := m.find(name)
	if s == nil {
		return Plan{}, ErrUnknown
	}
	done := make(chan Plan, 1)
	go func() { done <- m.plan(s) }() // a disk that does not answer holds up nobody
	select {
	case p := <-done:
		return p, nil
	case <-ctx.Done():
		return Plan{}, ctx.Err()
	}
}

func (m *Manager) plan(s *service) Plan {
	settings, now := s.config.Load(), time.Now()
	c := settings.Service
	p := Plan{Status: *s.status.Load(), Steps: stepsOf(c)}
	d, err := m.desire(settings)
	if err == nil {
		err = d.withPasswords(c)
	}
	if err != nil {
		p.Error = err
		return p
	}
	files, err := m.compose(c, d, now, nil)
	if err != nil {
		p.Error = err
		return p
	}
	r, _ := readRecord(m.options.Records, s.name) // one that is damaged has nothing proved
	for i, f := range files {
		p.Files = append(p.Files, planned(c, c.Files[i], f, r.Proved, r.Proved != nil && r.Proved.Digest == d.digest))
	}
	target, err := set.Open(c.Directory, m.options.Disk)
	if err != nil {
		p.Error = err
		return p
	}
	defer target.Close()
	_, p.Error = target.Current()
	return p
}

func planned(c config.Service, f config.ServiceFile, made set.File, proved *made, same bool) PlannedFile {
	p := PlannedFile{Path: stable(c, f.Name), Format: f.Format, Mode: fmt.Sprintf("%04o", made.Mode), Owner: f.Owner, Group: f.Group, Bytes: len(made.Data), Change: "new"}
	if proved == nil {
		return p
	}
	sum := sha256.Sum256(made.Data)
	switch i := slices.IndexFunc(proved.Files, func(e set.Entry) bool { return e.Name == f.Name }); {
	case i < 0:
	case same || proved.Files[i].SHA256 == hex.EncodeToString(sum[:]): // a PKCS#12 file is another one each time
		p.Change = "same"
	default:
		p.Change = "changed"
	}
	return p
}

// stepsOf says in sentences what follows a new set.
func stepsOf(c config.Service) []string {
	steps := []string{fmt.Sprintf("write %d files into a new directory below %s, and swap %s/%s", len(c.Files), c.Directory, c.Directory, set.Link)}
	switch v := c.Validate; {
	case v.Unit != "":
		steps = append(steps, "validate: start "+v.Unit)
	case len(v.Exec) > 0:
		steps = append(steps, "validate: run "+strings.Join(v.Exec, " "))
	}
	r := c.Reload
	switch r.Kind {
	case config.ReloadUnit:
		steps = append(steps, fmt.Sprintf("%s %s", r.Action, r.Unit))
	case config.ReloadHAProxy:
		steps = append(steps, "hand the files to HAProxy through "+r.Socket)
	case config.ReloadSignal:
		steps = append(steps, fmt.Sprintf("send %s to the process of %s", r.Signal, r.PIDFile))
	case config.ReloadExec:
		steps = append(steps, "reload: run "+strings.Join(r.Exec, " "))
	case config.ReloadNone:
		steps = append(steps, "reload: none, the service watches its files")
	}
	for _, p := range c.Probes {
		steps = append(steps, fmt.Sprintf("prove: %d handshakes in a row with %s (%s), within %s", p.Stable, p.Address, p.Protocol, p.Within))
	}
	switch {
	case len(c.ProbeExec.Exec) > 0:
		steps = append(steps, fmt.Sprintf("prove: run %s until it ends with 0, within %s", strings.Join(c.ProbeExec.Exec, " "), c.Within))
	case len(c.Probes) == 0:
		steps = append(steps, "prove: none")
	}
	return steps
}
