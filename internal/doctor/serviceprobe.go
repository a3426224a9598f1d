package doctor

import (
	"context"
	"crypto/x509"
	"slices"
	"time"

	"github.com/spinecert/spinecert/internal/config"
	"github.com/spinecert/spinecert/internal/deliver"
	"github.com/spinecert/spinecert/internal/deliver/prove"
	"github.com/spinecert/spinecert/pki"
	"github.com/spinecert/spinecert/rotate"
)

// probeWait is how long a service is waited for: it is on this host.
const probeWait = 3 * time.Second

// serviceProbe: it answers, and serves what was proved. Only the daemon has the
// identity to be shown to services that ask for one.
func serviceProbe(ctx context.Context, s served, r *report) {
	c := s.service
	if len(c.Probes) == 0 && len(c.ProbeExec.Exec) == 0 {
		r.warn(c.Name, "name an address at which it can be asked, or a command: probe: {exec: [/path]}", "service %s has probe: none: nothing proves that it serves what is delivered", c.Name)
	}
	if s.stands.State == "" {
		return
	}
	slot := s.generation()
	for _, p := range c.Probes {
		s.probe(ctx, p, slot, r)
	}
}

// generation is what its slot has now; nil for nothing.
func (s served) generation() *rotate.Generation {
	for _, slot := range s.Slots {
		if snap := slot.Snapshot(); snap != nil && slot.Name() == s.service.Slot {
			return snap.Generation
		}
	}
	return nil
}

func (s served) probe(ctx context.Context, p config.Probe, slot *rotate.Generation, r *report) {
	name, where := s.service.Name, p.Address
	if p.ServerName != "" {
		where += " (" + p.ServerName + ")"
	}
	var id *pki.Identity
	if slot != nil {
		id = slot.Identity
	}
	ctx, cancel := context.WithTimeout(ctx, probeWait)
	defer cancel()
	seen, err := prove.Look(ctx, p, id)
	switch {
	case err != nil:
		r.fail(name, hintOr(err, "is it running? Look at its log"), "service %s: %v", name, err)
	case len(seen.Chain) == 0:
		r.fail(name, "is the protocol of the probe right?", "service %s: %s serves no certificate", name, where)
	case !leafDelivered(s.service):
		r.ok(name, "service %s: %s answers; it has a certificate of its own", name, where)
	case s.expected(seen.Chain[0], slot):
		r.ok(name, "service %s: %s serves what was proved, until %s", name, where, stamp(seen.Chain[0].NotAfter))
	case s.stands.State == deliver.Delivering:
		r.ok(name, "service %s: %s answers; what it should serve is being delivered", name, where)
	default:
		r.fail(name, againHint("did it read its files again? Do its settings name those below "+s.stable(""), name),
			"service %s: %s serves %s (serial %s), which is not what was proved", name, where, quote(seen.Chain[0]), serial(seen.Chain[0]))
	}
}

// expected reports whether a leaf is the one that was proved. What the slot has by now
// may have been proved since.
func (s served) expected(leaf *x509.Certificate, slot *rotate.Generation) bool {
	return pki.Fingerprint(leaf) == s.stands.Proved.Leaf || s.stands.State != deliver.Held && slot != nil && leaf.Equal(slot.Identity.Leaf())
}

// leafDelivered reports whether the service gets its certificate from us, and not trust
// and lists alone.
func leafDelivered(c config.Service) bool {
	return slices.ContainsFunc(c.Files, func(f config.ServiceFile) bool {
		return slices.Contains([]string{"cert", "fullchain", "combined", "der", "pkcs12", "jks"}, f.Format)
	})
}

// serial writes a serial number, of which a service may show any.
func serial(c *x509.Certificate) string {
	const most = 40 // 20 bytes, RFC 5280, Section 4.1.2.2
	text := c.SerialNumber.Text(16)
	if len(text) > most {
		text = text[:most] + "..."
	}
	return text
}
