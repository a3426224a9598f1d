package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/sandbox"
)

// TestRehearseResult: people and programs are told the same of revocations.
func TestRehearseResult(t *testing.T) {
	r := &rehearseResult{sandbox.Result{
		Requests: 3000, Revocations: 5, RevokedCut: 35, ResumptionsRefused: 8, WronglyCut: 1, CRLFaults: 2,
		CRLRequests:  sandbox.CRLRequests{Full: 11, Unchanged: 44, Spoiled: 12},
		CutLatencyMS: sandbox.Latency{P50: 750.1, P99: 1044.2, Max: 1045.3, Samples: 10},
	}}
	p := &page{}
	r.show(p)
	for _, want := range []string{
		"revocations 5, connections of revoked peers cut or refused 35, of others cut 1\n",
		"latency of a cut in ms: p50 750.1, p99 1044.2, max 1045.3 of 10\n",
		"refused although a session was resumed: 8\n",
		"CRL server: 11 lists, 44 times not changed, 12 requests spoiled in 2 faults that were got over\n",
	} {
		if !strings.Contains(p.buffer.String(), want) {
			t.Errorf("%q is not in\n%s", want, &p.buffer)
		}
	}
	text, err := json.Marshal(r)
	if err != nil {
		t.Fatal(err)
	}
	var got map[string]any
	if err := json.Unmarshal(text, &got); err != nil {
		t.Fatal(err)
	}
	for key, want := range map[string]any{
		"revocations": 5.0, "revoked_cut": 35.0, "revoked_served": 0.0, "wrongly_cut": 1.0, "resumptions_refused": 8.0, "crl_faults": 2.0,
	} {
		if got[key] != want {
			t.Errorf("%s is %v, want %v", key, got[key], want)
		}
	}
	if latency, ok := got["cut_latency_ms"].(map[string]any); !ok || latency["p99"] != 1044.2 || latency["samples"] != 10.0 {
		t.Errorf("cut_latency_ms is %v", got["cut_latency_ms"])
	}
	p = &page{}
	(&rehearseResult{}).show(p)
	if strings.Contains(p.buffer.String(), "revocations") || strings.Contains(p.buffer.String(), "CRL server") {
		t.Errorf("nothing was revoked:\n%s", &p.buffer)
	}
}
