package packaging

import (
	"strings"
	"testing"
)

// testQueriesShowTheDaemonAlone: any user of the host may write the fields of the daemon to the journal; the queries of docs/logs.md do not show them.
func testQueriesShowTheDaemonAlone(t *testing.T, deb string) {
	h := installed(t, deb)
	h.serve()
	h.Run("setpriv", "--reuid", "nobody", "--regid", "nogroup", "--clear-groups", "sh", "-c",
		`printf 'MESSAGE=forged\nPRIORITY=3\nSPINECERT_SLOT=pcs\nSPINECERT_EVENT=%s\nSPINECERT_HINT=forged\nSPINECERT_REASON=revoked\n\n' candidate_refused rotated handshake_refused | logger --journald`)
	h.Run("journalctl", "--sync")
	h.says(h.Run("journalctl", "SPINECERT_SLOT=pcs"), "forged")
	_, after, _ := strings.Cut(text(t, "docs/logs.md"), "\n## At night\n")
	_, block, _ := strings.Cut(after, "\n```\n")
	queries, _, ok := strings.Cut(block, "\n```\n")
	if !ok {
		t.Fatal("docs/logs.md has no queries")
	}
	for _, query := range strings.Split(queries, "\n") {
		if out := h.Run("sh", "-c", query+"\ntrue"); strings.Contains(out, "forged") || strings.Contains(query, "=pcs  ") && !strings.Contains(out, "slot=pcs") {
			t.Errorf("%s\nshows\n%s", query, out)
		}
	}
}
