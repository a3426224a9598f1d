package trust

import (
	"crypto/x509"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

// forget takes the roots out of s, so that only what is remembered is accepted.
func forget(s *State) { s.roots = x509.NewCertPool() }

func TestCacheServes(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	leaf := root.SubCA(t).Issue(t, testpki.DNS("a.nhs.uk"))
	s := stateOf(t, StateConfig{}, root.Cert)
	r := Request{Purpose: ClientAuth, Peers: Names("a.nhs.uk"), Now: now}
	v, err := s.Verify(sent(leaf), r)
	if err != nil {
		t.Fatal(err)
	}
	if len(s.cache.entries) != 0 {
		t.Error("Verify keeps what no handshake has proved")
	}
	s.Remember(sent(leaf), r, v)
	forget(s)
	again, err := s.Verify(sent(leaf), r)
	wantChain(t, again, err, v.Chain...)
	if again.Name != "a.nhs.uk" || again.NameSource != v.NameSource || !again.Until.Equal(v.Until) || again.Revocation != v.Revocation {
		t.Errorf("from the cache: %+v, fresh: %+v", again, v)
	}
	for _, e := range s.cache.entries {
		if e.verdict.Name != "" || e.verdict.NameSource != "" {
			t.Errorf("the name %q is kept", e.verdict.Name)
		}
	}
}

// What was accepted once is not found by a request that might be refused.
func TestCacheKey(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	sub := root.SubCA(t, testpki.NameConstraint([]string{"other.uk"}, nil))
	leaf := sub.Issue(t, testpki.Name("a.nhs.uk"), testpki.NoSAN(), testpki.EKU(x509.ExtKeyUsageClientAuth))
	s := stateOf(t, StateConfig{CRLs: []*CRL{readCRL1(t, sub, "sub.crl", testpki.Revoke(leaf.Cert.SerialNumber))}}, root.Cert)
	lenient := Request{Purpose: AnyPurpose, Peers: AnyName(), Revocation: Off, Now: now}
	v, err := s.Verify(sent(leaf), lenient)
	if err != nil {
		t.Fatal(err)
	}
	s.Remember(sent(leaf), lenient, v)
	with := func(change func(*Request)) Request {
		r := lenient
		change(&r)
		return r
	}
	tests := map[string]struct {
		chain []*x509.Certificate
		req   Request
		want  Reason
	}{
		"purpose":     {sent(leaf), with(func(r *Request) { r.Purpose = ServerAuth }), WrongPurpose},
		"mode":        {sent(leaf), with(func(r *Request) { r.Revocation = Require }), Revoked},
		"other mode":  {sent(leaf), with(func(r *Request) { r.Revocation = Prefer }), Revoked},
		"odd mode":    {sent(leaf), with(func(r *Request) { r.Revocation = "Off" }), Revoked},
		"fromCN":      {sent(leaf), with(func(r *Request) { r.NameFromCN = true }), NameConstraint},
		"names":       {sent(leaf), with(func(r *Request) { r.Peers = Names("b.nhs.uk") }), NameMismatch},
		"nobody":      {sent(leaf), with(func(r *Request) { r.Peers = Peers{} }), NameMismatch},
		"leaf alone":  {sent(leaf)[:1], lenient, UnknownIssuer},
		"other leaf":  {sent(&testpki.Leaf{Cert: sub.Issue(t, testpki.BadSignature()).Cert}, sub.Cert), lenient, BadSignature},
		"no time":     {sent(leaf), with(func(r *Request) { r.Now = time.Time{} }), NotYetValid},
		"odd purpose": {sent(leaf), with(func(r *Request) { r.Purpose = 256 }), WrongPurpose}, // one byte of the key
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v, err := s.Verify(tt.chain, tt.req)
			wantRefusal(t, v, err, tt.want)
		})
	}
	pins, err := AnyName().WithPins("00000000000000000000000000000000000000000000000000000000000000ff")
	if err != nil {
		t.Fatal(err)
	}
	v, err = s.Verify(sent(leaf), with(func(r *Request) { r.Peers = pins }))
	wantRefusal(t, v, err, NotListed)
}

func TestCacheKeyIsPrefixFree(t *testing.T) {
	c := func(raw string) *x509.Certificate { return &x509.Certificate{Raw: []byte(raw)} }
	lists := [][]*x509.Certificate{{c("AB"), c("C")}, {c("A"), c("BC")}, {c("ABC")}, {c("C"), c("AB")}, {c("A"), c("B"), c("C")}}
	seen := map[verdictID]bool{}
	for _, list := range lists {
		for p := AnyPurpose; p <= ClientAuth; p++ {
			for _, m := range []Mode{Require, Prefer, Off} {
				for _, fromCN := range []bool{false, true} {
					seen[verdictKey(list, p, m, fromCN)] = true
				}
			}
		}
	}
	if want := len(lists) * 3 * 3 * 2; len(seen) != want {
		t.Errorf("%d keys for %d different requests", len(seen), want)
	}
}

// An entry gives what a fresh judgement would give: not after the end of what it
// rests on, and not before it was made.
func TestCacheTime(t *testing.T) {
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	day := 24 * time.Hour
	root := testpki.NewRoot(t, testpki.Validity(begin, begin.Add(30*day)))
	leaf := root.Issue(t, testpki.Validity(begin, begin.Add(20*day)))
	crl := readCRL1(t, root, "root.crl", testpki.ThisUpdate(begin.Add(day)), testpki.NextUpdate(begin.Add(5*day)))
	const grace = time.Hour
	judged := begin.Add(2 * day)
	tests := map[string]struct {
		at         time.Time
		mode       Mode
		want       Reason
		revocation string
	}{
		"later":                      {judged.Add(day), Require, "", RevocationGood},
		"at nextUpdate":              {begin.Add(5 * day), Require, "", RevocationGood},
		"in the grace":               {begin.Add(5*day + 1), Require, "", RevocationGrace},
		"behind the grace":           {begin.Add(5*day + grace + 1), Require, CRLStale, ""},
		"at notAfter":                {begin.Add(20 * day), Off, "", RevocationOff},
		"behind notAfter":            {begin.Add(20*day + 1), Off, Expired, ""},
		"set back a little":          {judged.Add(-1), Require, "", RevocationGood},
		"set back before thisUpdate": {begin.Add(time.Hour), Require, CRLInvalid, ""},
		"set back before notBefore":  {begin.Add(-time.Hour), Off, NotYetValid, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := stateOf(t, StateConfig{Revocation: Require, Grace: grace, CRLs: []*CRL{crl}}, root.Cert)
			r := Request{Peers: AnyName(), Revocation: tt.mode, Now: judged}
			v, err := s.Verify(sent(leaf), r)
			if err != nil {
				t.Fatal(err)
			}
			s.Remember(sent(leaf), r, v)
			r.Now = tt.at
			v, err = s.Verify(sent(leaf), r)
			if tt.want != "" {
				wantRefusal(t, v, err, tt.want)
			} else if err != nil || v.Revocation != tt.revocation {
				t.Errorf("%q, error %v", v.Revocation, err)
			}
		})
	}
}

// The monotonic reading of time.Now does not see a clock that is set back.
func TestCacheIgnoresMonotonicClock(t *testing.T) {
	v := newVerdicts()
	now := time.Now()
	v.store(verdictID{}, Verdict{Until: now.Add(time.Hour)}, now)
	for _, e := range v.entries {
		if strings.Contains(e.from.String(), "m=") {
			t.Error("the entry keeps a monotonic reading")
		}
	}
}

func TestCacheKeepsTheEarliest(t *testing.T) {
	v, now := newVerdicts(), second()
	e := Verdict{Until: now.Add(time.Hour)}
	for _, at := range []time.Time{now, now.Add(time.Minute), now.Add(-time.Minute), now} {
		v.store(verdictID{}, e, at)
	}
	if _, ok := v.lookup(verdictID{}, now.Add(-time.Minute)); !ok {
		t.Error("a later handshake moves the beginning of an entry")
	}
	if _, ok := v.lookup(verdictID{}, now.Add(-time.Minute-1)); ok {
		t.Error("an entry is found before it was made")
	}
}

func TestRememberRefuses(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t)
	leaf, other := root.Issue(t), root.Issue(t)
	s := stateOf(t, StateConfig{}, root.Cert)
	r := Request{Peers: AnyName(), Now: now}
	v, err := s.Verify(sent(leaf), r)
	if err != nil {
		t.Fatal(err)
	}
	big := testpki.NewRoot(t, testpki.Name(strings.Repeat("n", maxRemembered/2)))
	long := sent(leaf, big.Cert, big.Cert)
	for name, tt := range map[string]struct {
		chain []*x509.Certificate
		req   Request
		v     Verdict
	}{
		"verdict of a refusal":    {sent(leaf), r, Verdict{}},
		"verdict of another leaf": {sent(other), r, v},
		"no certificate":          {nil, r, v},
		"nil certificate":         {[]*x509.Certificate{nil}, r, v},
		"no time":                 {sent(leaf), Request{}, v},
		"many bytes":              {long, r, v},
		"many certificates":       {slices.Concat(sent(leaf), make32(root.Cert), make32(root.Cert)), r, v},
	} {
		s.Remember(tt.chain, tt.req, tt.v)
		if len(s.cache.entries) != 0 {
			t.Errorf("%s: kept", name)
		}
	}
}

func TestCacheIsBounded(t *testing.T) {
	v, now := newVerdicts(), second()
	for i := range 2*maxVerdicts + 1 {
		v.store(verdictID{byte(i), byte(i >> 8), byte(i >> 16)}, Verdict{Until: now.Add(time.Hour)}, now)
		if len(v.entries) > maxVerdicts {
			t.Fatalf("%d entries", len(v.entries))
		}
	}
	if len(v.entries) == 0 {
		t.Error("nothing is kept")
	}
}

func benchState(b *testing.B) (*State, []*x509.Certificate, Request) {
	root := testpki.NewRoot(b, testpki.KeyType("rsa-2048"))
	sub := root.SubCA(b, testpki.KeyType("rsa-2048"))
	leaf := sub.Issue(b, testpki.KeyType("rsa-2048"), testpki.DNS("a.nhs.uk"))
	crls := []*CRL{readCRL1(b, root, "root.crl"), readCRL1(b, sub, "sub.crl")}
	s := stateOf(b, StateConfig{Revocation: Require, CRLs: crls}, certs(root, sub)...)
	return s, sent(leaf), Request{Purpose: ClientAuth, Peers: Names("a.nhs.uk"), Now: time.Now()}
}

func BenchmarkVerifyFresh(b *testing.B) {
	s, chain, r := benchState(b)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(chain, r); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkVerifyCached(b *testing.B) {
	s, chain, r := benchState(b)
	v, err := s.Verify(chain, r)
	if err != nil {
		b.Fatal(err)
	}
	s.Remember(chain, r, v)
	b.ReportAllocs()
	for b.Loop() {
		if _, err := s.Verify(chain, r); err != nil {
			b.Fatal(err)
		}
	}
}

// BenchmarkVerifyHostile is the most that a chain of a stranger costs: every CA
// it presents has certified every other, and no path ends at a root.
func BenchmarkVerifyHostile(b *testing.B) {
	leaf, cross := web(b, 6)
	s := stateOf(b, StateConfig{}, testpki.NewRoot(b).Cert)
	for b.Loop() {
		if _, err := s.Verify(sent(leaf, cross...), Request{Peers: AnyName(), Now: time.Now()}); err == nil {
			b.Fatal("accepted")
		}
	}
}
