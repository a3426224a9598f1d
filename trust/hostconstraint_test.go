package trust

import (
	"crypto/x509"
	"net/url"
	"testing"

	"github.com/spinecert/spinecert/internal/testpki"
)

func TestConstrainHosts(t *testing.T) {
	link, err := url.Parse("http://sub.permitted.test/x")
	if err != nil {
		t.Fatal(err)
	}
	tests := map[string]struct {
		mail, mailPermitted string
		uriPermitted        string
		want                Reason
	}{
		"no constraint":             {mail: "a@sub.permitted.test"},
		"the host":                  {mail: "a@Permitted.test", mailPermitted: "permitted.test"},
		"below the host":            {mail: "a@sub.permitted.test", mailPermitted: "permitted.test", want: NameConstraint},
		"below the domain":          {mail: "a@sub.permitted.test", mailPermitted: ".permitted.test"},
		"the domain itself":         {mail: "a@permitted.test", mailPermitted: ".permitted.test", want: NameConstraint},
		"the mailbox":               {mail: "a@permitted.test", mailPermitted: "a@PERMITTED.test"},
		"another mailbox":           {mail: "b@permitted.test", mailPermitted: "a@permitted.test", want: NameConstraint},
		"a mailbox of another case": {mail: "A@permitted.test", mailPermitted: "a@permitted.test", want: NameConstraint},
		"two signs":                 {mail: "a@permitted.test@other.test", mailPermitted: "permitted.test", want: NameConstraint},
		"a host that ends like it":  {mail: "a@xpermitted.test", mailPermitted: "permitted.test", want: NameConstraint},
		"address below the host":    {uriPermitted: "permitted.test", want: NameConstraint},
		"address below the domain":  {uriPermitted: ".permitted.test"},
		"address on the host":       {uriPermitted: "sub.permitted.test"},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			ca := &x509.Certificate{}
			if tt.mailPermitted != "" {
				ca.PermittedEmailAddresses = []string{tt.mailPermitted}
			}
			leaf := &x509.Certificate{}
			if tt.mail != "" {
				leaf.EmailAddresses = []string{tt.mail}
			}
			if tt.uriPermitted != "" {
				ca.PermittedURIDomains, leaf.URIs = []string{tt.uriPermitted}, []*url.URL{link}
			}
			if got := ReasonOf(constrainHosts([]*x509.Certificate{leaf, ca})); got != tt.want {
				t.Errorf("%q, want %q", got, tt.want)
			}
		})
	}
}

func TestAddressIsNoName(t *testing.T) {
	root := testpki.NewRoot(t)
	s := stateOf(t, StateConfig{}, root.Cert)
	for _, address := range []string{"127.0.0.1", "::1"} {
		v, err := s.Verify(sent(root.Issue(t, testpki.Name("x"), testpki.DNS(address))), Request{Peers: Names(address), Now: second()})
		wantRefusal(t, v, err, NameMismatch)
	}
}
