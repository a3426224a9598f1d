package trust

import (
	"crypto/x509"
	"encoding/asn1"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

var oidUnknown = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}

// refused is one chain that Verify must refuse. The bundle is the root of the
// test and, where sub is true, its subCA.
type refused struct {
	bundle []*x509.Certificate // more CAs beside the root
	chain  []*x509.Certificate
	req    Request
	want   Reason
	says   string
}

func TestVerifyRefuses(t *testing.T) {
	now := second()
	hour := time.Hour
	past, future := testpki.Validity(now.Add(-2*hour), now.Add(-hour)), testpki.Validity(now.Add(hour), now.Add(2*hour))
	root := testpki.NewRoot(t, testpki.Name("Root"))
	sub := root.SubCA(t, testpki.Name("Sub"))
	below := func(opts ...testpki.Option) []*x509.Certificate { // a leaf below a subCA with opts
		return sent(root.SubCA(t, append([]testpki.Option{testpki.Name("Odd")}, opts...)...).Issue(t))
	}
	leaf := func(opts ...testpki.Option) []*x509.Certificate { return sent(sub.Issue(t, opts...)) }
	stranger := testpki.NewRoot(t, testpki.Name("Stranger"))
	many := func(n int) []*x509.Certificate {
		out := leaf()
		for len(out) < n {
			out = append(out, sub.Cert)
		}
		return out
	}
	asCA := sub.Issue(t)
	forger := &testpki.Authority{Cert: asCA.Cert, Key: asCA.Key, Parent: sub}
	permit := func(names ...string) testpki.Option { return testpki.NameConstraint(names, nil) }
	exclude := func(names ...string) testpki.Option { return testpki.NameConstraint(nil, names) }
	constrained := func(leaf testpki.Option, cas ...testpki.Option) []*x509.Certificate {
		return sent(root.SubCA(t, cas...).Issue(t, testpki.Name("leaf.nhs.uk"), leaf))
	}
	keep := testpki.DNS("leaf.nhs.uk")
	server, client := x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth
	tests := map[string]refused{
		"no certificate":      {want: NoCertificate},
		"nil certificate":     {chain: []*x509.Certificate{nil}, want: Malformed},
		"nil behind the leaf": {chain: append(leaf(), nil), want: Malformed},
		"zero certificate":    {chain: []*x509.Certificate{{}}, want: Malformed},
		"one too many":        {chain: many(maxPresented + 1), want: TooLarge},
		"a hundred":           {chain: many(100), want: TooLarge, says: "100 certificates"},

		"unknown issuer":            {chain: sent(stranger.Issue(t)), want: UnknownIssuer, says: `the issuer "Stranger"`},
		"unknown issuer of a subCA": {chain: sent(stranger.SubCA(t, testpki.Name("S2")).Issue(t)), want: UnknownIssuer, says: `"Stranger" of "S2"`},
		"root of the peer's own":    {chain: sent(stranger.Issue(t), stranger.Cert), want: UnknownIssuer, says: `"Stranger" is self-signed`},
		"self-signed":               {chain: certs(stranger), want: UnknownIssuer, says: "self-signed"},
		"subCA missing":             {chain: leaf()[:1], want: UnknownIssuer, says: `the issuer "Sub"`},

		"altered":               {chain: leaf(testpki.BadSignature()), want: BadSignature, says: `issuer "Sub"`},
		"altered subCA":         {chain: below(testpki.BadSignature()), want: BadSignature, says: `"Odd" does not verify with the key of its issuer "Root"`},
		"same name, other key":  {chain: sent(testpki.NewRoot(t, testpki.Name("Root")).Issue(t)), want: BadSignature, says: `issuer "Root"`},
		"same name, below it":   {chain: sent(testpki.NewRoot(t, testpki.Name("Root")).SubCA(t).Issue(t)), want: BadSignature},
		"root with our name":    {chain: certs(testpki.NewRoot(t, testpki.Name("Root"))), want: BadSignature},
		"same name, both tried": {bundle: certs(root.SubCA(t, testpki.Name("Sub"))), chain: leaf(testpki.BadSignature()), want: BadSignature},

		"SHA-1 leaf":        {chain: leaf(testpki.SHA1()), want: WeakSignature, says: "SHA1"},
		"SHA-1 subCA":       {chain: below(testpki.SHA1()), want: WeakSignature, says: `"Odd"`},
		"SHA-1 and altered": {chain: leaf(testpki.SHA1(), testpki.BadSignature()), want: BadSignature},
		"RSA 1024":          {chain: leaf(testpki.KeyType("rsa-1024")), want: WeakKey, says: "RSA 1024"},
		"RSA 1024 subCA":    {chain: below(testpki.KeyType("rsa-1024")), want: WeakKey, says: `"Odd"`},
		"P-224":             {chain: leaf(testpki.KeyType("ecdsa-p224")), want: WeakKey, says: "P-224"},

		"one CA too many":      {chain: sent(root.SubCA(t, testpki.PathLen(0)).SubCA(t, testpki.Name("Low")).Issue(t)), want: PathLength},
		"two CAs too many":     {chain: sent(root.SubCA(t, testpki.PathLen(0)).SubCA(t, testpki.Name("Low")).SubCA(t, testpki.Name("Lower")).Issue(t)), want: PathLength},
		"leaf as CA":           {chain: sent(forger.Issue(t)), want: PathLength, says: "not a CA"},
		"subCA that is none":   {chain: below(testpki.NotCA()), want: PathLength, says: `"Odd"`},
		"no basicConstraints":  {chain: below(testpki.NoBasicConstraints()), want: PathLength},
		"subCA may not sign":   {chain: below(testpki.KeyUsage(x509.KeyUsageCRLSign)), want: PathLength},
		"critical extension":   {chain: leaf(testpki.CriticalExtension(oidUnknown)), want: CriticalExtension, says: "1.3.6.1.4.1.99999.1"},
		"critical in a subCA":  {chain: below(testpki.CriticalExtension(oidUnknown)), want: CriticalExtension, says: `"Odd"`},
		"SAN not permitted":    {chain: constrained(keep, permit("other.uk")), want: NameConstraint},
		"SAN excluded":         {chain: constrained(keep, exclude("nhs.uk")), want: NameConstraint},
		"CN not permitted":     {chain: constrained(testpki.NoSAN(), permit("other.uk")), req: Request{NameFromCN: true}, want: NameConstraint, says: `"leaf.nhs.uk"`},
		"CN excluded":          {chain: constrained(testpki.NoSAN(), exclude("nhs.uk")), req: Request{NameFromCN: true}, want: NameConstraint},
		"CN not below the dot": {chain: constrained(testpki.NoSAN(), permit(".leaf.nhs.uk")), req: Request{NameFromCN: true}, want: NameConstraint},
		"CN ends alike":        {chain: constrained(testpki.NoSAN(), permit("af.nhs.uk")), req: Request{NameFromCN: true}, want: NameConstraint},

		"not yet valid":       {chain: leaf(future), want: NotYetValid},
		"subCA not yet valid": {chain: below(future), want: NotYetValid, says: `"Odd"`},
		"expired":             {chain: leaf(past), want: Expired},
		"expired subCA":       {chain: below(past), want: Expired, says: `"Odd"`},
		"expired both":        {chain: sent(root.SubCA(t, testpki.Name("Odd"), past).Issue(t, past)), want: Expired},
		"no time":             {chain: leaf(), req: Request{Now: time.Time{}.Add(1)}, want: NotYetValid},

		"server as client":    {chain: leaf(testpki.EKU(server)), req: Request{Purpose: ClientAuth}, want: WrongPurpose, says: "TLS client"},
		"client as server":    {chain: leaf(testpki.EKU(client)), req: Request{Purpose: ServerAuth}, want: WrongPurpose, says: "TLS server"},
		"code signing":        {chain: leaf(testpki.EKU(x509.ExtKeyUsageCodeSigning)), req: Request{Purpose: ClientAuth}, want: WrongPurpose},
		"subCA for servers":   {chain: below(testpki.EKU(server)), req: Request{Purpose: ClientAuth}, want: WrongPurpose},
		"purpose of no kind":  {chain: leaf(), req: Request{Purpose: 257}, want: WrongPurpose},
		"purpose below zero":  {chain: leaf(), req: Request{Purpose: -1}, want: WrongPurpose},
		"nobody is permitted": {chain: leaf(), req: Request{Peers: Names()}, want: NameMismatch},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			s := stateOf(t, StateConfig{}, append(certs(root), tt.bundle...)...)
			r := tt.req
			if r.Now.IsZero() {
				r.Now = now
			}
			if tt.want != NameMismatch {
				r.Peers = AnyName()
			}
			v, err := s.Verify(tt.chain, r)
			wantRefusal(t, v, err, tt.want, tt.says)
		})
	}
}

// What is wrong with an anchor counts as well, but for its own signature.
func TestVerifyRootDefects(t *testing.T) {
	now := second()
	tests := map[string]struct {
		opts []testpki.Option
		want Reason
	}{
		"expired":       {[]testpki.Option{testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour))}, Expired},
		"not yet valid": {[]testpki.Option{testpki.Validity(now.Add(time.Hour), now.Add(2*time.Hour))}, NotYetValid},
		"weak key":      {[]testpki.Option{testpki.KeyType("rsa-1024")}, WeakKey},
		"path length":   {[]testpki.Option{testpki.PathLen(0)}, PathLength},
		"constraint":    {[]testpki.Option{testpki.NameConstraint([]string{"other.uk"}, nil)}, NameConstraint},
		"critical":      {[]testpki.Option{testpki.CriticalExtension(oidUnknown)}, CriticalExtension},
		"SHA-1":         {[]testpki.Option{testpki.KeyType("rsa-2048"), testpki.SHA1()}, ""},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			root := testpki.NewRoot(t, tt.opts...)
			leaf := root.SubCA(t).Issue(t)
			v, err := stateOf(t, StateConfig{}, root.Cert).Verify(sent(leaf), Request{Peers: AnyName(), Now: now})
			if tt.want == "" {
				wantChain(t, v, err, leaf.Cert, leaf.Chain[0], root.Cert)
				return
			}
			wantRefusal(t, v, err, tt.want)
		})
	}
}

func TestVerifyAccepts(t *testing.T) {
	now := second()
	root := testpki.NewRoot(t, testpki.Name("Root"))
	sub := root.SubCA(t, testpki.Name("Sub"))
	low := sub.SubCA(t, testpki.Name("Low"))
	leaf := low.Issue(t)
	stranger := testpki.NewRoot(t, testpki.Name("Stranger"))
	noise := []*x509.Certificate{stranger.Cert, stranger.SubCA(t).Cert, stranger.Issue(t).Cert, sub.Issue(t).Cert}
	weak := root.SubCA(t, testpki.Name("Sub"), testpki.KeyType("rsa-1024")).Cert
	past := testpki.Validity(now.Add(-2*time.Hour), now.Add(-time.Hour))
	cn := func(c testpki.Option) []*x509.Certificate {
		return sent(root.SubCA(t, c).Issue(t, testpki.Name("leaf.nhs.uk"), testpki.NoSAN()))
	}
	permit := func(names ...string) testpki.Option { return testpki.NameConstraint(names, nil) }
	l, s, w := leaf.Cert, sub.Cert, low.Cert
	tests := map[string]struct {
		bundle []*x509.Certificate
		chain  []*x509.Certificate
		req    Request
	}{
		"in order":                {chain: sent(leaf)},
		"wrong order":             {chain: []*x509.Certificate{l, s, w}},
		"with the root":           {chain: sent(leaf, root.Cert)},
		"twice":                   {chain: sent(leaf, l, w, s)},
		"extras":                  {chain: append([]*x509.Certificate{l, noise[0], noise[1], w}, append(noise, s)...)},
		"namesake beside it":      {chain: append([]*x509.Certificate{l, weak}, sent(leaf)[1:]...)},
		"expired namesake":        {chain: sent(leaf, root.CrossSign(t, sub, past).Cert)},
		"altered namesake":        {chain: []*x509.Certificate{l, w, root.CrossSign(t, sub, testpki.BadSignature()).Cert, s}},
		"leaf alone, bundle full": {bundle: certs(low, sub), chain: []*x509.Certificate{l}},
		"half and half":           {bundle: certs(sub), chain: []*x509.Certificate{l, w}},
		"as many as are read":     {chain: append(sent(leaf), make32(leaf.Chain[0])...)},
		"any purpose":             {chain: sent(sub.Issue(t, testpki.EKU(x509.ExtKeyUsageCodeSigning)))},
		"any purpose, client":     {chain: sent(sub.Issue(t, testpki.EKU(x509.ExtKeyUsageClientAuth)))},
		"no EKU, server":          {chain: sent(sub.Issue(t, testpki.EKU())), req: Request{Purpose: ServerAuth}},
		"client only":             {chain: sent(sub.Issue(t, testpki.EKU(x509.ExtKeyUsageClientAuth))), req: Request{Purpose: ClientAuth}},
		"server only":             {chain: sent(sub.Issue(t, testpki.EKU(x509.ExtKeyUsageServerAuth))), req: Request{Purpose: ServerAuth}},
		"CN permitted":            {chain: cn(permit("nhs.uk")), req: Request{NameFromCN: true}},
		"CN permitted, the same":  {chain: cn(permit("LEAF.nhs.uk")), req: Request{NameFromCN: true}},
		"CN permitted, dot":       {chain: cn(permit(".nhs.uk")), req: Request{NameFromCN: true}},
		"CN excluded elsewhere":   {chain: cn(testpki.NameConstraint(nil, []string{"other.uk"})), req: Request{NameFromCN: true}},
		"CN that does not count":  {chain: cn(permit("other.uk"))},
		"path length used up":     {chain: sent(root.SubCA(t, testpki.PathLen(1)).SubCA(t, testpki.Name("L"), testpki.PathLen(0)).Issue(t))},
		"Ed25519":                 {chain: sent(root.SubCA(t, testpki.KeyType("ed25519")).Issue(t, testpki.KeyType("ed25519")))},
		"RSA":                     {chain: sent(root.SubCA(t, testpki.KeyType("rsa-4096")).Issue(t, testpki.KeyType("rsa-2048")))},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			state := stateOf(t, StateConfig{}, append(certs(root), tt.bundle...)...)
			tt.req.Peers, tt.req.Now = AnyName(), now
			v, err := state.Verify(tt.chain, tt.req)
			if err != nil {
				t.Fatal(err)
			}
			if !v.Chain[0].Equal(tt.chain[0]) || !v.Chain[len(v.Chain)-1].Equal(root.Cert) {
				t.Errorf("the path is not from the leaf to the root: %d certificates", len(v.Chain))
			}
			if v.Revocation != RevocationOff {
				t.Errorf("revocation is %q", v.Revocation)
			}
		})
	}
}

// make32 fills a chain of a leaf and two subCAs up to the limit.
func make32(c *x509.Certificate) []*x509.Certificate {
	out := make([]*x509.Certificate, maxPresented-3)
	for i := range out {
		out[i] = c
	}
	return out
}
