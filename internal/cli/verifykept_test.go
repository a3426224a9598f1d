package cli

import (
	"crypto/sha256"
	"encoding/hex"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/state"
	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/rotate"
)

// keep has the daemon's state directory hold a list.
func (w *listWorld) keep(t *testing.T, environment, address string, data []byte) {
	t.Helper()
	d, err := state.Lock(w.beside("state"), state.Options{})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	spool, err := d.SpoolCRL()
	if err != nil {
		t.Fatal(err)
	}
	defer spool.Close()
	if _, err := spool.Write(data); err != nil {
		t.Fatal(err)
	}
	if err := d.KeepCRL(environment, rotate.KeptCRL{Address: address, Fetched: time.Now()}, spool); err != nil {
		t.Fatal(err)
	}
}

// TestVerifyKnowsKeptCRLs: what the daemon has, in DER or PEM, fetched or carried, is
// not asked for again.
func TestVerifyKnowsKeptCRLs(t *testing.T) {
	t.Parallel()
	for name, at := range map[string]func(*listWorld) string{
		"fetched": func(w *listWorld) string { return w.server.URL + "/sub.crl" },
		"carried": func(*listWorld) string { return rotate.CarriedPrefix + "0011223344556677/sub.crl" },
	} {
		for form, encode := range map[string]func([]byte) []byte{"DER": func(b []byte) []byte { return b }, "PEM": testpki.EncodeCRL} {
			w := newListWorld(t, "")
			w.keep(t, "live", w.server.URL+"/root.crl", w.rootList)
			w.keep(t, "live", at(w), encode(w.subList))
			if exit, r, _ := verifyJSON(t, "--config", w.config, w.good); exit != exitDone || r.Revocation != "good" || len(r.Notes) != 0 {
				t.Errorf("%s, %s: exit %d, %+v", name, form, exit, r)
			}
			// Also of another date, for which nobody is asked.
			at := time.Now().Add(time.Minute).UTC().Format(time.RFC3339)
			if exit, r, _ := verifyJSON(t, "--config", w.config, "--at", at, w.revoked); exit != exitJudged || r.Reason != "revoked" {
				t.Errorf("%s, %s: exit %d, %+v", name, form, exit, r)
			}
			if n := w.asked.Load(); n != 0 {
				t.Errorf("%s, %s: %d requests", name, form, n)
			}
		}
	}
}

// TestVerifyFetchesWhatIsNotKept has lists that are of no use here: of another
// environment, of another partition, damaged.
func TestVerifyFetchesWhatIsNotKept(t *testing.T) {
	t.Parallel()
	w := newListWorld(t, "")
	w.keep(t, "other", w.server.URL+"/root.crl", w.rootList)
	w.keep(t, "live", w.server.URL+"/sub.crl", w.otherPartition)
	w.keep(t, "live", w.server.URL+"/foreign.crl", testpki.NewRoot(t).CRL(t))
	w.keep(t, "live", w.server.URL+"/none.crl", []byte("no list"))
	exit, r, _ := verifyJSON(t, "--config", w.config, w.good)
	notes := strings.Join(r.Notes, "\n")
	if exit != exitDone || r.Revocation != "good" || w.asked.Load() != 2 || len(r.Notes) != 3 || !strings.Contains(notes, "/none.crl\": ") || strings.Contains(notes, "foreign") {
		t.Errorf("exit %d, %d requests, %+v", exit, w.asked.Load(), r)
	}
	sum := sha256.Sum256([]byte(w.server.URL + "/sub.crl"))
	testpki.WriteFile(t, filepath.Join(w.beside("state/crl/live"), hex.EncodeToString(sum[:])+".json"), []byte("{"), 0o600)
	if exit, r, _ := verifyJSON(t, "--config", w.config, w.good); exit != exitDone || !strings.Contains(r.Notes[0], "CRLs that the daemon has kept could not all be read: ") || strings.Contains(r.Notes[0], "\n") {
		t.Errorf("damaged: exit %d, %+v", exit, r)
	}
	if exit, r, _ := verifyJSON(t, "--config", w.config, "--revocation", "off", w.good); exit != exitDone || len(r.Notes) != 0 {
		t.Errorf("off: exit %d, %+v", exit, r)
	}
	if exit, r, _ := verifyJSON(t, "--trust", w.beside("trust.pem"), "--revocation", "prefer", w.good); exit != exitDone || strings.Contains(strings.Join(r.Notes, "\n"), "kept") {
		t.Errorf("trust files alone: exit %d, %+v", exit, r)
	}
}
