package trust

import (
	"crypto/x509"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/pki"
)

// A subCA with two certificates, from two roots: the path may go over either,
// and one that fails does not spoil the other.
func TestVerifyCrossSigned(t *testing.T) {
	now := second()
	past := testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour))
	one, two := testpki.NewRoot(t, testpki.Name("One")), testpki.NewRoot(t, testpki.Name("Two"))
	sub := one.SubCA(t, testpki.Name("Sub"))
	leaf := sub.Issue(t, testpki.Name("leaf.nhs.uk"), testpki.NoSAN())
	cross := func(opts ...testpki.Option) *x509.Certificate { return two.CrossSign(t, sub, opts...).Cert }
	permit := testpki.NameConstraint([]string{"other.uk"}, nil)
	client := testpki.EKU(x509.ExtKeyUsageClientAuth)
	good := cross()
	tests := map[string]struct {
		bundle []*x509.Certificate
		chain  []*x509.Certificate
		want   []*x509.Certificate // behind the leaf; nil: any
	}{
		"over one":                {certs(one), []*x509.Certificate{leaf.Cert, sub.Cert, good}, certs(sub, one)},
		"over the other":          {certs(two), []*x509.Certificate{leaf.Cert, sub.Cert, good}, []*x509.Certificate{good, two.Cert}},
		"either":                  {certs(one, two), []*x509.Certificate{leaf.Cert, sub.Cert, good}, nil},
		"from the bundle":         {append(certs(two, sub), good), []*x509.Certificate{leaf.Cert}, []*x509.Certificate{good, two.Cert}},
		"one expired":             {certs(one, two), []*x509.Certificate{leaf.Cert, cross(past), sub.Cert}, certs(sub, one)},
		"one SHA-1":               {certs(one, two), []*x509.Certificate{leaf.Cert, cross(testpki.SHA1()), sub.Cert}, certs(sub, one)},
		"one constrained":         {certs(one, two), []*x509.Certificate{leaf.Cert, cross(permit), sub.Cert}, certs(sub, one)},
		"one for clients only":    {certs(one, two), []*x509.Certificate{leaf.Cert, cross(client), sub.Cert}, certs(sub, one)},
		"one expired, bundle":     {append(certs(one, two, sub), cross(past)), []*x509.Certificate{leaf.Cert}, certs(sub, one)},
		"one constrained, bundle": {append(certs(one, two, sub), cross(permit)), []*x509.Certificate{leaf.Cert}, certs(sub, one)},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := stateOf(t, StateConfig{NameFromCN: true}, tt.bundle...)
			v, err := s.Verify(tt.chain, Request{Purpose: ServerAuth, Peers: Names("leaf.nhs.uk"), Now: now})
			if tt.want == nil {
				tt.want = v.Chain[min(1, len(v.Chain)):]
			}
			wantChain(t, v, err, append([]*x509.Certificate{leaf.Cert}, tt.want...)...)
		})
	}
	t.Run("none passes", func(t *testing.T) {
		s := stateOf(t, StateConfig{NameFromCN: true}, certs(two)...)
		v, err := s.Verify([]*x509.Certificate{leaf.Cert, cross(permit), cross(past)}, Request{Peers: AnyName(), Now: now})
		wantRefusal(t, v, err, NameConstraint)
	})
}

// An anchor with a weak key is refused, another path beside it is not.
func TestVerifyWeakAnchorBesideGood(t *testing.T) {
	weak, good := testpki.NewRoot(t, testpki.Name("Weak"), testpki.KeyType("rsa-1024")), testpki.NewRoot(t, testpki.Name("Good"))
	sub := good.SubCA(t)
	leaf := sub.Issue(t)
	chain := sent(leaf, weak.CrossSign(t, sub).Cert)
	v, err := stateOf(t, StateConfig{}, certs(weak, good)...).Verify(chain, Request{Peers: AnyName(), Now: second()})
	wantChain(t, v, err, leaf.Cert, sub.Cert, good.Cert)
	v, err = stateOf(t, StateConfig{}, weak.Cert).Verify(chain, Request{Peers: AnyName(), Now: second()})
	wantRefusal(t, v, err, WeakKey, `"Weak"`)
}

func TestVerifyDates(t *testing.T) {
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	end := begin.Add(24 * time.Hour)
	short, long := testpki.Validity(begin, end), testpki.Validity(begin.Add(-24*time.Hour), end.Add(24*time.Hour))
	times := map[string]struct {
		at   time.Time
		want Reason
	}{
		"the beginning":          {begin, ""},
		"a nanosecond early":     {begin.Add(-1), ""},
		"5 minutes early":        {begin.Add(-5 * time.Minute), ""},
		"5 minutes and a little": {begin.Add(-5*time.Minute - 1), NotYetValid},
		"the end":                {end, ""},
		"a nanosecond late":      {end.Add(1), Expired},
	}
	for _, position := range []string{"leaf", "subCA", "root"} {
		pick := func(p string) testpki.Option {
			if p == position {
				return short
			}
			return long
		}
		root := testpki.NewRoot(t, pick("root"))
		leaf := root.SubCA(t, pick("subCA")).Issue(t, pick("leaf"))
		s := stateOf(t, StateConfig{}, root.Cert)
		for name, tt := range times {
			t.Run(position+"/"+name, func(t *testing.T) {
				v, err := s.Verify(sent(leaf), Request{Purpose: ServerAuth, Peers: AnyName(), Now: tt.at})
				if tt.want != "" {
					wantRefusal(t, v, err, tt.want)
					return
				}
				wantChain(t, v, err, leaf.Cert, leaf.Chain[0], root.Cert)
				if !v.Until.Equal(end) {
					t.Errorf("the verdict holds until %s, want the earliest end %s", v.Until, end)
				}
			})
		}
	}
}

// Within the tolerance everything else is judged as ever, and told as it is.
func TestVerifyToleranceForgivesNothingElse(t *testing.T) {
	begin := time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)
	early := begin.Add(-time.Minute)
	root := testpki.NewRoot(t, testpki.Validity(begin.Add(-time.Hour), begin.Add(time.Hour)))
	valid, gone := testpki.Validity(begin, begin.Add(time.Hour)), testpki.Validity(begin.Add(-time.Hour), early.Add(-time.Second))
	odd := func(opts ...testpki.Option) []*x509.Certificate {
		return sent(root.SubCA(t, append(opts, valid)...).Issue(t, valid))
	}
	tests := map[string]struct {
		chain []*x509.Certificate
		want  Reason
	}{
		"purpose":        {sent(root.Issue(t, valid, testpki.EKU(x509.ExtKeyUsageClientAuth))), WrongPurpose},
		"name":           {odd(testpki.NameConstraint([]string{"other.uk"}, nil)), NameConstraint},
		"weak signature": {sent(root.Issue(t, valid, testpki.SHA1())), WeakSignature},
		"expired subCA":  {sent(root.SubCA(t, gone).Issue(t, valid)), Expired},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			v, err := stateOf(t, StateConfig{}, root.Cert).Verify(tt.chain, Request{Purpose: ServerAuth, Peers: AnyName(), Now: early})
			wantRefusal(t, v, err, tt.want)
		})
	}
}

// web makes n CAs that have all certified one another, and a leaf below the first.
func web(tb testing.TB, n int) (*testpki.Leaf, []*x509.Certificate) {
	tb.Helper()
	var cas []*testpki.Authority
	for i := range n {
		cas = append(cas, testpki.NewRoot(tb, testpki.Name(fmt.Sprintf("CA %d", i))))
	}
	leaf := cas[0].Issue(tb)
	var out []*x509.Certificate
	for _, a := range cas {
		for _, b := range cas {
			if a != b && len(out) < maxPresented-1 {
				out = append(out, a.CrossSign(tb, b).Cert)
			}
		}
	}
	return leaf, out
}

func TestVerifyCyclicCrossCertificates(t *testing.T) {
	leaf, cross := web(t, 6)
	root := testpki.NewRoot(t)
	v, err := stateOf(t, StateConfig{}, root.Cert).Verify(sent(leaf, cross...), Request{Peers: AnyName(), Now: second()})
	wantRefusal(t, v, err, UnknownIssuer)

	one, two := testpki.NewRoot(t, testpki.Name("One")), testpki.NewRoot(t, testpki.Name("Two"))
	there, back := one.CrossSign(t, two), two.CrossSign(t, one)
	leaf = two.Issue(t)
	v, err = stateOf(t, StateConfig{}, one.Cert).Verify(sent(leaf, back.Cert, there.Cert), Request{Peers: AnyName(), Now: second()})
	wantChain(t, v, err, leaf.Cert, there.Cert, one.Cert)
}

// A stranger cannot make us check signatures with keys of its own, but for the
// few that the reason of the refusal may cost.
func TestVouched(t *testing.T) {
	root := testpki.NewRoot(t, testpki.Name("CA 1"))
	sub := root.SubCA(t, testpki.Name("Sub"))
	low := sub.SubCA(t, testpki.Name("Low"))
	leaf, cross := web(t, 6)
	s := stateOf(t, StateConfig{}, certs(root, sub)...)
	weak := root.SubCA(t, testpki.KeyType("rsa-1024"))
	tests := map[string]struct {
		extra []*x509.Certificate
		want  int
	}{
		"in the bundle": {certs(sub, root), 0},
		"below it":      {certs(low, sub, low), 1},
		"below a new":   {certs(low.SubCA(t), low), 2},
		"strangers":     {cross, 0},
		"among them":    {append(cross[:20:20], low.Cert), 1},
		"namesake":      {certs(testpki.NewRoot(t, testpki.Name("CA 1")).SubCA(t)), 0},
		"altered":       {certs(root.SubCA(t, testpki.BadSignature())), 0},
		"SHA-1":         {certs(root.SubCA(t, testpki.SHA1())), 0},
		"no CA, weak":   {append(certs(weak), root.Issue(t).Cert), 0},
	}
	for name, tt := range tests {
		if got := s.vouched(sent(leaf, tt.extra...)); len(got) != tt.want {
			t.Errorf("%s: %d are vouched for, want %d", name, len(got), tt.want)
		}
	}
}

// crypto/x509 tells only the last thing that was wrong, and not the path length
// if another certificate of the same CA leads nowhere.
func TestVerifyTellsPathLength(t *testing.T) {
	root := testpki.NewRoot(t)
	sub := root.SubCA(t, testpki.Name("Sub"), testpki.PathLen(0))
	bundle := certs(root, sub)
	for i := range 6 {
		bundle = append(bundle, testpki.NewRoot(t, testpki.Name(fmt.Sprintf("Gone %d", i))).CrossSign(t, sub).Cert)
	}
	chain := sent(sub.SubCA(t, testpki.Name("Low")).Issue(t))
	v, err := stateOf(t, StateConfig{}, bundle...).Verify(chain, Request{Peers: AnyName(), Now: second()})
	wantRefusal(t, v, err, PathLength, "permits 0")
}

func TestVerifyZeroValues(t *testing.T) {
	root := testpki.NewRoot(t)
	leaf := root.Issue(t)
	s := stateOf(t, StateConfig{}, root.Cert)
	now := second()
	var none *State
	for _, state := range []*State{none, {}} {
		v, err := state.Verify(sent(leaf), Request{Peers: AnyName(), Now: now})
		wantRefusal(t, v, err, UnknownIssuer, "no trust state")
		state.Remember(sent(leaf), Request{Now: now}, Verdict{Chain: sent(leaf)})
	}
	v, err := s.Verify(sent(leaf), Request{Peers: AnyName()}) // crypto/x509 would take the time of day
	wantRefusal(t, v, err, NotYetValid, "no time")
	v, err = s.Verify(sent(leaf), Request{Now: now})
	wantRefusal(t, v, err, NameMismatch, "no name is permitted")
	v, err = s.Verify(nil, Request{})
	wantRefusal(t, v, err, NoCertificate)
}

func TestNewStateRefuses(t *testing.T) {
	b := bundleOf(t, testpki.NewRoot(t, testpki.Name("Root")).Cert)
	tests := map[string]StateConfig{
		"no bundle":       {},
		"empty bundle":    {Bundle: &Bundle{}},
		"mode":            {Bundle: b, Revocation: "Off"},
		"nil CRL":         {Bundle: b, CRLs: []*CRL{nil}},
		"negative grace":  {Bundle: b, Grace: -1},
		"unknown CA name": {Bundle: b, AcceptableCAs: []string{"Root", "Other"}},
	}
	for name, c := range tests {
		if s, err := NewState(c); err == nil || s != nil {
			t.Errorf("%s: accepted", name)
		}
	}
	if s, err := NewState(StateConfig{Bundle: b}); err != nil || s.Revocation() != Require {
		t.Errorf("without a mode: %v, want require", err)
	}
}

func TestAcceptableCAs(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t, testpki.Name("Root"))
	live := root.SubCA(t, testpki.Name("Live"))
	old := root.SubCA(t, testpki.Name("Old"), testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour)))
	hexSum := strings.ToUpper(pki.Fingerprint(live.Cert))
	hexSum = hexSum[:2] + ":" + hexSum[2:]
	tests := map[string]struct {
		bundle []*x509.Certificate
		config []string
		only   []string
		want   []*x509.Certificate
	}{
		"auto":             {certs(root, live, old), nil, nil, certs(live)},
		"roots alone":      {certs(root), nil, nil, certs(root)},
		"environment":      {certs(root, live, old), []string{"Root"}, nil, certs(root)},
		"tunnel":           {certs(root, live, old), []string{"Root"}, []string{"Old"}, certs(old)},
		"by fingerprint":   {certs(root, live, old), nil, []string{hexSum}, certs(live)},
		"name not in case": {certs(root, live), nil, []string{"live"}, nil},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := stateOf(t, StateConfig{AcceptableCAs: tt.config}, tt.bundle...)
			got, err := s.AcceptableCAs(tt.only, now)
			if tt.want == nil {
				if err == nil {
					t.Fatal("accepted")
				}
				return
			}
			want := x509.NewCertPool()
			for _, c := range tt.want {
				want.AddCert(c)
			}
			if err != nil || !got.Equal(want) {
				t.Errorf("error %v, or other CAs than wanted", err)
			}
		})
	}
}
