package main

import "testing"

// The cases of make conformance; of BetterTLS, whose certificates take long to make
// under the race detector, a sample.
func TestConformance(t *testing.T) {
	for _, s := range suites() {
		t.Run(s.name, func(t *testing.T) {
			r := s.judge(true)
			if r.skipped != "" {
				t.Skip(r.skipped)
			}
			if r.failed != nil {
				t.Error(r.failed)
			}
			if len(r.outcomes) == 0 {
				t.Error("there are no cases")
			}
			for _, o := range r.outcomes {
				if v := o.verdict(); v != right && v != notApplicable {
					t.Errorf("%s: want %q, got %v", o.name, o.want, o.got)
				}
			}
		})
	}
}
