package cli

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/spinecert/spinecert/internal/sandbox"
)

// TestRehearseResult: people and programs are told the same of revocations and services.
func TestRehearseResult(t *testing.T) {
	r := &rehearseResult{sandbox.Result{
		Requests: 3000, Revocations: 5, RevokedCut: 35, ResumptionsRefused: 8, WronglyCut: 1, CRLFaults: 2,
		CRLRequests:  sandbox.CRLRequests{Full: 11, Unchanged: 44, Spoiled: 12},
		CutLatencyMS: sandbox.Latency{P50: 750.1, P99: 1044.2, Max: 1045.3, Samples: 10},
		Services: []sandbox.ServiceResult{{Name: "nginx", Rotations: 20, Proved: 19, RolledBack: 1, Requests: 2336, FailedRequests: 3, SentAgain: 2,
			LatencyMS: sandbox.Latency{P50: 235.2, P99: 328.8, Max: 328.9, Samples: 18}}},
	}}
	p := &page{}
	r.show(p)
	for _, want := range []string{
		"revocations 5, connections of revoked peers cut or refused 35, of others cut 1\n",
		"latency of a cut in ms: p50 750.1, p99 1044.2, max 1045.3 of 10\n",
		"refused although a session was resumed: 8\n",
		"CRL server: 11 lists, 44 times not changed, 12 requests spoiled in 2 faults that were got over\n",
		"nginx: rotations 20, proved 19, rolled back 1; requests 2336, failed 3, sent again 2\n",
		"nginx: latency of a proof in ms: p50 235.2, p99 328.8, max 328.9 of 18\n",
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
	want := map[string]any{"name": "nginx", "rotations": 20.0, "proved": 19.0, "rolled_back": 1.0, "requests": 2336.0, "failed_requests": 3.0, "sent_again": 2.0,
		"latency_ms": map[string]any{"p50": 235.2, "p99": 328.8, "max": 328.9, "samples": 18.0}}
	if diff := cmp.Diff([]any{want}, got["services"]); diff != "" {
		t.Errorf("services (-want +got):\n%s", diff)
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
