package daemon

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/clock"
	"github.com/spinecert/spinecert/internal/testpki"
)

// testClock reads the real clocks, as far as the file at path does not say otherwise:
// how far the wall clock is away from the right time, and whether the kernel calls it
// synchronised.
func testClock(path string) func() (clock.Reading, error) {
	return func() (clock.Reading, error) {
		r, err := clock.Read()
		if err != nil {
			return r, err
		}
		data, err := os.ReadFile(path)
		if err != nil {
			return r, err
		}
		var seconds int64
		var kernel string
		if _, err := fmt.Sscan(string(data), &seconds, &kernel); err != nil {
			return r, err
		}
		r.Wall, r.Synchronised = r.Wall.Add(time.Duration(seconds)*time.Second), kernel == "synchronised"
		return r, nil
	}
}

// setClock says what the daemon is to read from now on.
func (h *host) setClock(away time.Duration, kernel string) string {
	h.t.Helper()
	return h.write("clock", []byte(fmt.Sprintf("%d %s", int64(away/time.Second), kernel)), 0o600)
}

func (h *host) suspect(want string) {
	h.t.Helper()
	h.until("clock_suspect is "+want, func() bool { return h.metric("spinecert_clock_suspect") == want })
}

// While the clock is suspect no date ends an open connection, and every date counts
// for who connects. The operator's word ends that.
func TestClockSuspect(t *testing.T) {
	t.Parallel()
	h := newHost(t)
	h.identity("pcs", providerName)
	other := h.identity("other", "other.nhs.uk")
	h.revocation()
	h.configure(requireCRLs, providerSlot, strings.Replace(inbound(backend(t)), peerName, peerName+", other.nhs.uk", 1))
	h.start("SPINECERTD_TEST_CLOCK=" + h.setClock(0, "free"))
	h.suspect("0")
	address := h.listen("ssp-in")
	ends := time.Now().Add(4 * time.Second)
	h.identity("peer", peerName, testpki.Validity(time.Now().Add(-time.Hour), ends))
	dated, revoked := h.keepOpen(address, "peer"), h.keepOpen(address, "other")
	h.setClock((3*365*24+1)*time.Hour, "free")
	h.suspect("1")
	h.logged("event=clock_suspect", "set forward by 1095 days", "hint=")
	h.audited(`"event":"clock_suspect"`, "set forward by 1095 days")
	found := false
	for _, c := range h.status().Conditions {
		found = found || c.Code == "clock_suspect" && c.Subject == "clock" && c.Severity == "critical" && strings.Contains(c.Message, "1095 days") && strings.Contains(c.Hint, "timedatectl")
	}
	if !found {
		t.Errorf("conditions %+v", h.status().Conditions)
	}
	h.until("the certificate has ended", func() bool { return time.Now().After(ends) })
	h.revocation(other) // what is no matter of dates cuts all the same, and shows that a review was made
	if _, err := revoked.Read(make([]byte, 1)); err == nil {
		t.Error("a revoked peer is not cut")
	}
	if err := dated.use(); err != nil {
		t.Errorf("cut for a date alone: %v", err)
	}
	if err := h.dial(address, "peer"); err == nil {
		t.Error("an expired peer is let in, because the clock is suspect")
	}
	h.refusal("refused", "expired")
	if n := strings.Count(h.output.String(), "event=clock_suspect"); n != 1 {
		t.Errorf("told %d times", n)
	}
	h.reconfigure("drain: 5s", "drain: 6s")
	h.suspect("0")
	if _, err := dated.Read(make([]byte, 1)); err == nil {
		t.Error("an expired peer is not cut when dates count again")
	}
	h.audited(`"event":"clock_trusted"`, "operator")
}

// After a start the clock is compared with what the host wrote down before.
func TestClockBehindTheAuditFile(t *testing.T) {
	t.Parallel()
	h, leaf := simpleHost(t)
	h.start("SPINECERTD_TEST_CLOCK=" + h.setClock(0, "free"))
	h.serves("ssp-in", leaf)
	h.audited(`"event":"rotated"`)
	if code := h.stop(sigTerm); code != 0 {
		t.Fatalf("exit status %d", code)
	}
	h.setClock(-20*365*24*time.Hour, "free")
	h.start("SPINECERTD_TEST_CLOCK=" + h.path("clock"))
	h.suspect("1")
	h.logged("event=clock_suspect", "newest record of this host")
	h.setClock(0, "synchronised")
	h.suspect("0")
	h.logged("event=clock_trusted", "kernel")
}

// Which lines of the audit file say what time it was.
func TestLastTime(t *testing.T) {
	t.Parallel()
	at := func(hour int) time.Time { return time.Date(2026, 11, 22, hour, 0, 0, 0, time.UTC) }
	line := func(hour int, event string) auditLine { return auditLine{Time: at(hour), Event: event} }
	for name, tc := range map[string]struct {
		lines []auditLine
		want  time.Time
	}{
		"none":                      {nil, time.Time{}},
		"the latest, not the last":  {[]auditLine{line(1, "rotated"), line(3, "rotated"), line(2, "reload")}, at(3)},
		"not what a doubt wrote":    {[]auditLine{line(1, "rotated"), line(20, eventClockSuspect), line(21, "rotated")}, at(1)},
		"a doubt that ended":        {[]auditLine{line(1, "rotated"), line(20, eventClockSuspect), line(21, "rotated"), line(2, eventClockTrusted), line(3, "reload")}, at(3)},
		"what was wrong before":     {[]auditLine{line(20, "rotated"), line(2, eventClockTrusted)}, at(2)},
		"a doubt of the early hour": {[]auditLine{line(9, "rotated"), line(0, eventClockSuspect), line(0, "reload")}, at(9)},
	} {
		var l lastTime
		for i := range tc.lines {
			l.add(&tc.lines[i])
		}
		if !l.newest.Equal(tc.want) {
			t.Errorf("%s: %s, want %s", name, l.newest, tc.want)
		}
	}
	if data, err := json.Marshal(auditLine{Tunnel: "in", Count: 2}); err != nil || !strings.Contains(string(data), `"tunnel":"in"`) || !strings.Contains(string(data), `"count":2`) {
		t.Errorf("%s, %v", data, err)
	}
}
