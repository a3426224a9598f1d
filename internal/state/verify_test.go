package state

import (
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// TestVerifyFinds plants one defect at a time.
func TestVerifyFinds(t *testing.T) {
	const slot, g, trusted = "slots/pcs", "slots/pcs/generations/2", "trust.d/live"
	other := newIdentity(t)
	for name, c := range map[string]struct {
		plant func(dir string, request string) error
		want  []string // R stands for the request
		root  bool
	}{
		"open directory":    {plant: func(d, _ string) error { return os.Chmod(d, 0o720) }, want: []string{"mode ."}},
		"open slots":        {plant: func(d, _ string) error { return os.Chmod(d+"/slots", 0o755) }, want: []string{"mode slots"}},
		"open slot":         {plant: func(d, _ string) error { return os.Chmod(d+"/"+slot, 0o750) }, want: []string{"mode " + slot}},
		"open generation":   {plant: func(d, _ string) error { return os.Chmod(d+"/"+g, 0o711) }, want: []string{"mode " + g}},
		"readable key":      {plant: func(d, _ string) error { return os.Chmod(d+"/"+g+"/key.pem", 0o640) }, want: []string{"mode " + g + "/key.pem"}},
		"readable request":  {plant: func(d, r string) error { return os.Chmod(r+"/key.pem", 0o604) }, want: []string{"mode R/key.pem"}},
		"open request":      {plant: func(d, r string) error { return os.Chmod(r, 0o701) }, want: []string{"mode R"}},
		"open trust":        {plant: func(d, _ string) error { return os.Chmod(d+"/"+trusted, 0o755) }, want: []string{"mode " + trusted}},
		"inbox for all":     {plant: func(d, _ string) error { return os.Chmod(d+"/inbox", 0o777) }, want: []string{"mode inbox"}},
		"inbox without bit": {plant: func(d, _ string) error { return os.Chmod(d+"/inbox/done", 0o770) }, want: []string{"mode inbox/done"}},
		"inbox gone":        {plant: func(d, _ string) error { return os.RemoveAll(d + "/inbox/rejected") }, want: []string{"missing inbox/rejected"}},
		"readable lock":     {plant: func(d, _ string) error { return os.Chmod(d+"/.lock", 0o644) }, want: []string{"mode .lock"}},
		"owner":             {plant: func(d, _ string) error { return os.Chown(d+"/"+g+"/key.pem", 4711, -1) }, want: []string{"owner " + g + "/key.pem"}, root: true},
		"stray at the top":  {plant: func(d, _ string) error { return os.WriteFile(d+"/backup.tar", nil, 0o600) }, want: []string{"stray backup.tar"}},
		"stray slot":        {plant: func(d, _ string) error { return os.Mkdir(d+"/slots/PCS", 0o700) }, want: []string{"stray slots/PCS"}},
		"stray in slot":     {plant: func(d, _ string) error { return os.Mkdir(d+"/"+slot+"/old", 0o700) }, want: []string{"stray " + slot + "/old"}},
		"stray in between":  {plant: func(d, _ string) error { return os.Mkdir(d+"/"+slot+"/generations/02", 0o700) }, want: []string{"stray " + slot + "/generations/02"}},
		"stray generation":  {plant: func(d, _ string) error { return os.WriteFile(d+"/"+g+"/key.pem~", nil, 0o600) }, want: []string{"stray " + g + "/key.pem~"}},
		"stray in request":  {plant: func(d, r string) error { return os.WriteFile(r+"/copy", nil, 0o600) }, want: []string{"stray R/copy"}},
		"temporary":         {plant: func(d, _ string) error { return os.Mkdir(d+"/"+slot+"/requests/.x.Y", 0o700) }, want: []string{"temporary " + slot + "/requests/.x.Y"}},
		"temporary in one":  {plant: func(d, _ string) error { return os.Mkdir(d+"/"+g+"/.x", 0o700) }, want: []string{"temporary " + g + "/.x"}},
		"no current":        {plant: func(d, _ string) error { return os.Remove(d + "/" + slot + "/current") }, want: []string{"current " + slot + "/current"}},
		"wild current":      {plant: func(d, _ string) error { return relink(d+"/"+slot, "/etc") }, want: []string{"current " + slot + "/current"}},
		"dangling current":  {plant: func(d, _ string) error { return relink(d+"/"+slot, "generations/9") }, want: []string{"current " + slot + "/current"}},
		"current is a file": {plant: func(d, _ string) error { return replace(d+"/"+slot+"/current", "") }, want: []string{"current " + slot + "/current"}},
		"key gone":          {plant: func(d, _ string) error { return os.Remove(d + "/" + g + "/key.pem") }, want: []string{"missing " + g + "/key.pem"}},
		"other key":         {plant: func(d, _ string) error { return replace(d+"/"+g+"/key.pem", string(mustKey(other))) }, want: []string{"key_mismatch " + g + "/key.pem"}},
		"nonsense as key":   {plant: func(d, _ string) error { return replace(d+"/"+g+"/key.pem", "x") }, want: []string{"unreadable " + g + "/key.pem"}},
		"pipe as key": {plant: func(d, _ string) error {
			return errors.Join(os.Remove(d+"/"+g+"/key.pem"), syscall.Mkfifo(d+"/"+g+"/key.pem", 0o600))
		}, want: []string{"unreadable " + g + "/key.pem"}},
		"link as key": {plant: func(d, r string) error {
			return errors.Join(os.Remove(d+"/"+g+"/key.pem"), os.Symlink(r+"/key.pem", d+"/"+g+"/key.pem"))
		}, want: []string{"unreadable " + g + "/key.pem"}},
		"other certificate": {plant: func(d, _ string) error {
			return replace(d+"/"+g+"/cert.pem", string(pki.EncodeCertificates(other.Leaf())))
		}, want: []string{"digest " + g + "/cert.pem"}},
		"other chain": {plant: func(d, _ string) error { return replace(d+"/"+g+"/chain.pem", "") }, want: []string{"chain " + g + "/chain.pem"}},
		"wrong chain": {plant: func(d, _ string) error {
			chain := string(pki.EncodeCertificates(other.Chain()...))
			data, err := os.ReadFile(d + "/" + g + "/cert.pem")
			return errors.Join(err, replace(d+"/"+g+"/chain.pem", chain), replace(d+"/"+g+"/fullchain.pem", string(data)+chain))
		}, want: []string{"chain " + g + "/fullchain.pem", "digest " + g + "/generation.json"}},
		"torn chain":         {plant: func(d, _ string) error { return os.Truncate(d+"/"+g+"/fullchain.pem", 100) }, want: []string{"unreadable " + g + "/fullchain.pem"}},
		"lying dates":        {plant: func(d, _ string) error { return edit(d+"/"+g+"/generation.json", `"not_after": "2`, `"not_after": "3`) }, want: []string{"digest " + g + "/generation.json"}},
		"lying serial":       {plant: func(d, _ string) error { return edit(d+"/"+g+"/generation.json", `"serial": "`, `"serial": "f`) }, want: []string{"digest " + g + "/generation.json"}},
		"torn json":          {plant: func(d, _ string) error { return os.Truncate(d+"/"+g+"/generation.json", 9) }, want: []string{"unreadable " + g + "/generation.json"}},
		"key of a request":   {plant: func(d, r string) error { return replace(r+"/key.pem", string(mustKey(other))) }, want: []string{"key_mismatch R/key.pem"}},
		"CSR of another":     {plant: func(d, r string) error { return replace(r+"/request.csr", string(otherCSR(t))) }, want: []string{"key_mismatch R/request.csr"}},
		"answer to another":  {plant: func(d, r string) error { return replace(r+"/answer.pem", string(pki.EncodeCertificates(other.Leaf()))) }, want: []string{"unreadable R/answer.pem"}},
		"json of another":    {plant: func(d, r string) error { return edit(r+"/request.json", `"slot": "pcs"`, `"slot": "x"`) }, want: []string{"digest R/request.json"}},
		"request without":    {plant: func(d, r string) error { return os.Remove(r + "/request.json") }, want: []string{"missing R/request.json"}},
		"generation is file": {plant: func(d, r string) error { return replace(d+"/slots/pcs/generations/1", "") }, want: []string{"unreadable slots/pcs/generations/1"}},
		"slots is a link": {plant: func(d, r string) error {
			return errors.Join(os.Rename(d+"/slots", d+"/lost+found"), os.Symlink("lost+found", d+"/slots"))
		}, want: []string{"unreadable slots"}},
		"trust is a file": {plant: func(d, r string) error { return replace(d+"/trust.d/int", "") }, want: []string{"unreadable trust.d/int"}},
	} {
		t.Run(name, func(t *testing.T) {
			if c.root && os.Geteuid() != 0 {
				t.Skip("only root can give files away")
			}
			dir := t.TempDir()
			d := mustLock(t, dir)
			mustCommit(t, d, 1, newIdentity(t), 5)
			mustCommit(t, d, 2, newIdentity(t), 5)
			r, _ := mustRequest(t, d)
			if _, err := d.AddTrust("live", testpki.NewRoot(t).Cert); err != nil {
				t.Fatal(err)
			}
			if checked, findings, err := d.Verify(t.Context()); checked != 4 || len(findings) != 0 || err != nil {
				t.Fatalf("before: %d, %v, %v", checked, findings, err)
			}
			request := "slots/pcs/requests/" + r.ID
			if err := c.plant(dir, filepath.Join(dir, request)); err != nil {
				t.Fatal(err)
			}
			var want []string
			for _, w := range c.want {
				want = append(want, strings.Replace(w, "R", request, 1))
			}
			wantCodes(t, d, want...)
		})
	}
}

// TestVerifyBesideADaemon: without the lock a temporary may be under way.
func TestVerifyBesideADaemon(t *testing.T) {
	dir := t.TempDir()
	locked := mustLock(t, dir)
	mustCommit(t, locked, 1, newIdentity(t), 1)
	d, err := Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	if err := os.Mkdir(filepath.Join(dir, "slots", testSlot, "generations", ".2.X"), 0o700); err != nil {
		t.Fatal(err)
	}
	wantClean(t, d)
	if _, findings, err := d.verify(t.Context(), time.Now().Add(time.Hour)); len(findings) != 1 || findings[0].Code != CodeTemporary || err != nil {
		t.Errorf("an hour later: %v, %v", findings, err)
	}
	wantCodes(t, locked, "temporary slots/pcs/generations/.2.X")
}

func TestVerifyEnds(t *testing.T) {
	d := mustLock(t, t.TempDir())
	mustCommit(t, d, 1, newIdentity(t), 1)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, _, err := d.Verify(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("%v", err)
	}
}

func FuzzParseGeneration(f *testing.F) {
	f.Add([]byte(`{"schema":1,"number":1,"slot":"pcs","environment":"live","origin":"files","digest":"` + strings.Repeat("ab", 32) + `","since":"2026-11-22T10:00:00Z"}`))
	f.Add([]byte(`{"schema":1,"number":18446744073709551616}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		g, err := parseGeneration(data)
		if err != nil {
			return
		}
		again, err := encodeJSON(g)
		if err != nil {
			t.Skip() // a year that JSON cannot say
		}
		h, err := parseGeneration(again)
		if err != nil || !h.Since.Equal(g.Since) || !h.NotAfter.Equal(g.NotAfter) {
			t.Errorf("%v: %+v, then %+v", err, g, h)
		}
		h.Since, h.NotAfter = g.Since, g.NotAfter
		if h.record() != g.record() {
			t.Errorf("%+v, then %+v", g, h)
		}
		if checkName("slot", g.Slot) != nil || g.Number == 0 {
			t.Errorf("took %+v", g)
		}
	})
}

func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"schema":1,"id":"0123456789abcdef","slot":"pcs"}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		r, err := parseRequest(data)
		if err == nil && (checkID(r.ID) != nil || checkName("slot", r.Slot) != nil || !json.Valid(data)) {
			t.Errorf("took %+v", r)
		}
	})
}
