package sandbox

import (
	"cmp"
	"fmt"
	"math"
	"slices"
	"time"
)

// Latency is a distribution in milliseconds.
type Latency struct {
	P50     float64 `json:"p50"`
	P99     float64 `json:"p99"`
	Max     float64 `json:"max"`
	Samples int     `json:"samples"`
}

// ServiceResult is what a rehearsal saw of one service. Its requests are among those
// of the whole rehearsal.
type ServiceResult struct {
	Name           string  `json:"name"`
	Rotations      int64   `json:"rotations"`       // of its slot
	Proved         int64   `json:"proved"`          // of them: the daemon said so, and a handshake from outside showed it
	RolledBack     int64   `json:"rolled_back"`     // broken deliveries after which the certificate before was served
	Requests       int64   `json:"requests"`        // answered or not
	FailedRequests int64   `json:"failed_requests"` // of them
	SentAgain      int64   `json:"sent_again"`      // requests on a kept connection that the service closed before it answered
	LatencyMS      Latency `json:"latency_ms"`      // rename that completes a pair to proof, without the broken one
}

// Result is the outcome of [Rehearse], in the form of CONTRACT.md, section 3.
type Result struct {
	Requests           int64           `json:"requests"`          // answered or not
	Failed             int64           `json:"failed"`            // of them, and handshakes that showed what they should not
	Connections        int64           `json:"connections"`       // TLS connections seen from outside
	Resumed            int64           `json:"resumed"`           // of them, by resumption
	Rotations          int64           `json:"rotations"`         // of the daemon's slots, each seen in a handshake
	RefusedRotations   int64           `json:"refused_rotations"` // broken ones that the daemon refused or left pending
	BrokenServed       int64           `json:"broken_served"`     // handshakes that showed a broken one
	Revocations        int64           `json:"revocations"`
	RevokedCut         int64           `json:"revoked_cut"`         // connections of revoked peers that were cut, and new ones that were refused
	RevokedServed      int64           `json:"revoked_served"`      // what was done for revoked peers all the same
	ResumptionsRefused int64           `json:"resumptions_refused"` // of the new ones, those that resumed a session from before
	WronglyCut         int64           `json:"wrongly_cut"`         // connections of others that the daemon ended
	CRLFaults          int64           `json:"crl_faults"`          // times that the CRL server misbehaved and the daemon recovered
	CRLRequests        CRLRequests     `json:"crl_requests"`
	DurationSeconds    float64         `json:"duration_seconds"`
	LatencyMS          Latency         `json:"latency_ms"`     // rename that completes a pair to first handshake with it
	CutLatencyMS       Latency         `json:"cut_latency_ms"` // list to be had to connection seen closed
	Services           []ServiceResult `json:"services"`
	Steps              []StepResult    `json:"steps,omitempty"` // of a scenario
	Causes             []Cause         `json:"causes"`          // of failures, most frequent first
	Problems           []string        `json:"problems"`        // why it did not pass; empty if it did
}

// StepResult is one step of a scenario, in their order.
type StepResult struct {
	Name    string  `json:"name"`
	Done    bool    `json:"done"`    // it was carried out, and every check held
	Seconds float64 `json:"seconds"` // how long it took
	Checks  []Check `json:"checks"`
}

// Check is something that has to be so at a step.
type Check struct {
	What   string `json:"what"`
	Held   bool   `json:"held"`
	Detail string `json:"detail"` // what was there in its place, or ""
}

// Passed tells whether the rehearsal showed what it should (exit status 0, else 3).
func (r Result) Passed() bool { return len(r.Problems) == 0 }

// Summary is the outcome of [Run].
type Summary struct {
	Directory       string  `json:"directory"` // "" once it is removed
	Requests        int64   `json:"requests"`
	Failed          int64   `json:"failed"`
	Connections     int64   `json:"connections"`
	Resumed         int64   `json:"resumed"`
	Rotations       int64   `json:"rotations"`
	BrokenServed    int64   `json:"broken_served"`
	Revocations     int64   `json:"revocations"`
	RevokedCut      int64   `json:"revoked_cut"`
	RevokedServed   int64   `json:"revoked_served"`
	WronglyCut      int64   `json:"wrongly_cut"`
	DurationSeconds float64 `json:"duration_seconds"`
	LatencyMS       Latency `json:"latency_ms"`
	CutLatencyMS    Latency `json:"cut_latency_ms"`
	Causes          []Cause `json:"causes"`
}

// Passed tells whether no request failed, nothing was served that should not be, and
// nobody was cut off without a reason (exit status 0, else 3).
func (s Summary) Passed() bool {
	return s.Failed == 0 && s.BrokenServed == 0 && s.RevokedServed == 0 && s.WronglyCut == 0
}

// wanted is what a rehearsal had to make happen.
type wanted struct {
	rotations, broken   int
	revocations, faults int
	proved              int64 // revocations that were looked at to the end
	services            []string
	serviceRotations    int // of each
}

// judge says what is wrong with a rehearsal.
func (r Result) judge(want wanted) []string {
	problems := append([]string{}, r.judgeRevocations(want)...)
	problems = append(problems, r.judgeServices(want)...)
	if r.Failed > 0 {
		problems = append(problems, fmt.Sprintf("%d of %d requests failed", r.Failed, r.Requests))
	}
	if r.Requests == 0 {
		problems = append(problems, "no request was made")
	}
	if r.BrokenServed > 0 {
		problems = append(problems, fmt.Sprintf("%d handshakes showed a broken identity", r.BrokenServed))
	}
	if r.Rotations < int64(want.rotations) {
		problems = append(problems, fmt.Sprintf("%d of %d rotations happened", r.Rotations, want.rotations))
	}
	if r.RefusedRotations < int64(want.broken) {
		problems = append(problems, fmt.Sprintf("%d of %d broken rotations were refused", r.RefusedRotations, want.broken))
	}
	for _, s := range r.Steps {
		if s.Done {
			continue
		}
		problems = append(problems, fmt.Sprintf("step %q was not done", s.Name))
		for _, c := range s.Checks {
			if !c.Held {
				problems = append(problems, fmt.Sprintf("step %q: not so: %s: %s", s.Name, c.What, c.Detail))
			}
		}
	}
	return problems
}

func (r Result) judgeRevocations(want wanted) []string {
	var problems []string
	if r.WronglyCut > 0 {
		problems = append(problems, fmt.Sprintf("%d connections were cut of peers that are not revoked", r.WronglyCut))
	}
	if r.RevokedServed > 0 {
		problems = append(problems, fmt.Sprintf("%d requests or connections of revoked peers were served", r.RevokedServed))
	}
	if r.CRLFaults < int64(want.faults) {
		problems = append(problems, fmt.Sprintf("after %d of %d faults of the CRL server the lists were asked for again", r.CRLFaults, want.faults))
	}
	n := int64(want.revocations)
	if n == 0 {
		return problems
	}
	if r.Revocations < n || want.proved < n {
		problems = append(problems, fmt.Sprintf("%d of %d revocations happened, %d were looked at to the end", r.Revocations, n, want.proved))
	}
	if r.RevokedCut < n {
		problems = append(problems, fmt.Sprintf("%d connections were cut or refused after %d revocations", r.RevokedCut, n))
	}
	if r.ResumptionsRefused == 0 {
		problems = append(problems, "no revoked peer was refused while it resumed a session")
	}
	return problems
}

func (r Result) judgeServices(want wanted) []string {
	var problems []string
	for _, name := range want.services {
		var s ServiceResult // of one that never started nothing is known
		if i := slices.IndexFunc(r.Services, func(s ServiceResult) bool { return s.Name == name }); i >= 0 {
			s = r.Services[i]
		}
		if n := int64(want.serviceRotations); s.Rotations < n {
			problems = append(problems, fmt.Sprintf("%s: %d of %d rotations happened", name, s.Rotations, n))
		}
		if s.Proved < s.Rotations {
			problems = append(problems, fmt.Sprintf("%s: %d of %d rotations were proved", name, s.Proved, s.Rotations))
		}
		if s.RolledBack == 0 {
			problems = append(problems, name+": the broken delivery was not rolled back")
		}
		if s.FailedRequests > 0 {
			problems = append(problems, fmt.Sprintf("%s: %d of %d requests failed", name, s.FailedRequests, s.Requests))
		}
		if s.Requests == 0 {
			problems = append(problems, name+": no request was made")
		}
	}
	return problems
}

// distribution sums up durations; percentiles by the nearest-rank method.
func distribution(samples []time.Duration) Latency {
	if len(samples) == 0 {
		return Latency{}
	}
	sorted := slices.Sorted(slices.Values(samples))
	rank := func(p float64) float64 {
		return milliseconds(sorted[max(int(math.Ceil(p*float64(len(sorted))))-1, 0)])
	}
	return Latency{P50: rank(0.50), P99: rank(0.99), Max: milliseconds(sorted[len(sorted)-1]), Samples: len(sorted)}
}

// milliseconds rounds to a microsecond.
func milliseconds(d time.Duration) float64 {
	return math.Round(float64(d)/float64(time.Microsecond)) / 1000
}

func sortedCauses(counts map[string]int64) []Cause {
	causes := make([]Cause, 0, len(counts))
	for text, n := range counts {
		causes = append(causes, Cause{Cause: text, Count: n})
	}
	slices.SortFunc(causes, func(a, b Cause) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Cause, b.Cause))
	})
	return causes
}
