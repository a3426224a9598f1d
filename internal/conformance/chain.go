package main

import (
	"crypto/x509"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
	"github.com/spinecert/spinecert/trust"
)

// Names and addresses of the hostile cases.
const (
	peerName  = "peer.thirdparty.nhs.uk"
	rootList  = "http://crl.example.test/root.crl"
	subList   = "http://crl.example.test/sub/1.crl"
	otherList = "http://crl.example.test/sub/2.crl"
)

// chain is a peer's chain and all it is judged with, as in an environment with the
// NHS profile: each certificate names its partition, and revocation is required.
// It is good unless a case spoils it.
type chain struct {
	l                *lab
	rootOf, subOf    []testpki.Option
	leafOf           []testpki.Option
	rootCRL, subCRL  []testpki.CRLOption
	root, sub        *testpki.Authority
	issuer           *testpki.Authority // of the leaf; sub unless between says otherwise
	leaf             *testpki.Leaf
	presented        []*x509.Certificate
	bundle           []*x509.Certificate
	lists            []list
	config           trust.StateConfig
	request          trust.Request
	between, crafted []func(*chain) // run once the CAs are made; once the leaf and the lists are
}

// list is a CRL and where it was fetched.
type list struct {
	der    []byte
	origin string
}

// chainCase is one row: the same setup is judged with and without the defect.
type chainCase struct {
	name          string
	want          trust.Reason
	setup, defect func(*chain)
}

// before has f run between the CAs and the leaf.
func (c *chain) before(f func(*chain)) { c.between = append(c.between, f) }

// after has f run when everything is made.
func (c *chain) after(f func(*chain)) { c.crafted = append(c.crafted, f) }

// root, sub and leaf options of a case.
func (c *chain) ofRoot(o ...testpki.Option)     { c.rootOf = append(c.rootOf, o...) }
func (c *chain) ofSub(o ...testpki.Option)      { c.subOf = append(c.subOf, o...) }
func (c *chain) ofLeaf(o ...testpki.Option)     { c.leafOf = append(c.leafOf, o...) }
func (c *chain) ofList(o ...testpki.CRLOption)  { c.subCRL = append(c.subCRL, o...) }
func (c *chain) ofRoots(o ...testpki.CRLOption) { c.rootCRL = append(c.rootCRL, o...) }

// judge makes the chain and judges it. A list that is refused is the verdict, but
// only where the chain is refused without it too.
func (c *chain) judge() error {
	c.root = testpki.NewRoot(c.l, c.rootOf...)
	c.sub = c.root.SubCA(c.l, append([]testpki.Option{testpki.CDP(rootList)}, c.subOf...)...)
	c.issuer, c.bundle = c.sub, []*x509.Certificate{c.root.Cert, c.sub.Cert}
	run(c, c.between)
	c.leaf = c.issuer.Issue(c.l, append([]testpki.Option{testpki.Name(peerName), testpki.CDP(subList)}, c.leafOf...)...)
	c.presented = append([]*x509.Certificate{c.leaf.Cert}, c.leaf.Chain...)
	c.lists = []list{
		{c.root.CRL(c.l, append([]testpki.CRLOption{testpki.IDP(rootList)}, c.rootCRL...)...), rootList},
		{c.sub.CRL(c.l, append([]testpki.CRLOption{testpki.IDP(subList)}, c.subCRL...)...), subList},
	}
	run(c, c.crafted)
	var err error
	if c.config.Bundle, err = trust.ParseBundle(trust.Source{Name: "trust.pem", Data: testpki.EncodeCerts(c.bundle...)}); err != nil {
		return err
	}
	var refused error
	for _, l := range c.lists {
		crl, err := trust.ReadCRL(l.der, l.origin, c.config.Bundle.Certificates())
		if err != nil {
			refused = err
			continue
		}
		c.config.CRLs = append(c.config.CRLs, crl)
	}
	state, err := trust.NewState(c.config)
	if err != nil {
		return err
	}
	if _, err := state.Verify(c.presented, c.request); err != nil && refused == nil {
		return err
	} else if err == nil {
		return nil
	}
	return refused
}

func run(c *chain, steps []func(*chain)) {
	for _, f := range steps {
		f(c)
	}
}

// judgeChain judges one row: first without the defect, then with it.
func judgeChain(l *lab, k chainCase) outcome {
	judge := func(defect func(*chain)) error {
		c := &chain{l: l}
		c.config = trust.StateConfig{Environment: "test", Profile: trust.NHSG2, Revocation: trust.Require}
		c.request = trust.Request{Purpose: trust.ServerAuth, Peers: trust.Names(peerName), Now: time.Now()}
		if k.setup != nil {
			k.setup(c)
		}
		if defect != nil {
			defect(c)
		}
		return l.guard(c.judge)
	}
	if err := judge(nil); err != nil {
		l.Errorf("%s: its good twin is refused: %v", k.name, err)
	}
	return outcome{name: k.name, want: k.want, got: judge(k.defect)}
}
