package consumers

import (
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

const slapdSchema = `include /etc/ldap/schema/core.schema
attributetype ( 1.3.6.1.4.1.4203.666.1.1 NAME 'nhsIDCode' EQUALITY caseIgnoreMatch SYNTAX 1.3.6.1.4.1.1466.115.121.1.15 )
objectclass ( 1.3.6.1.4.1.4203.666.2.1 NAME 'nhsAS' SUP top STRUCTURAL MUST ( nhsIDCode $ cn ) )
`

const slapdData = `dn: ou=services,o=nhs
objectClass: organizationalUnit
ou: services

dn: cn=1,ou=services,o=nhs
objectClass: nhsAS
cn: 1
nhsIDCode: T99999
`

func TestOpenLDAP(t *testing.T) {
	t.Parallel()
	slapd, slapadd, ldapsearch := testprogram.Need(t, "slapd"), testprogram.Need(t, "slapadd"), testprogram.Need(t, "ldapsearch")
	h := newHost(t, "OpenLDAP")
	h.export()
	rc, err := os.ReadFile(h.path("spine/ldaprc"))
	if want := h.setting("ldap", 0); err != nil || string(rc) != want {
		t.Errorf("ldaprc (%v):\n%s\nthe manual has:\n%s", err, rc, want)
	}
	if err := os.Mkdir(h.path("db"), 0o700); err != nil {
		t.Fatal(err)
	}
	config := slapdSchema + fmt.Sprintf("pidfile %s\n", h.path("slapd.pid")) + h.setting("slapd", 0) +
		fmt.Sprintf("database ldif\nsuffix ou=services,o=nhs\ndirectory %s\n", h.path("db"))
	h.write("slapd.conf", []byte(config), 0o600)
	h.write("data.ldif", []byte(slapdData), 0o600)
	if out, err := h.run(nil, nil, slapadd, "-f", h.path("slapd.conf"), "-l", h.path("data.ldif")); err != nil {
		t.Fatalf("slapadd: %v: %s", err, out)
	}
	address := h.freeAddress()
	h.launch(nil, slapd, "-h", "ldaps://"+address, "-f", h.path("slapd.conf"), "-d", "256")
	h.listening(address)

	found := "nhsIDCode: T99999"
	command := h.commands("LDAPRC=" + h.path("spine/ldaprc"))[0]
	search := func(env ...string) (string, error) {
		args := strings.Split(strings.ReplaceAll(strings.Join(command[2:], "\n"), "ldap.nis1.national.ncrs.nhs.uk", address), "\n")
		return h.run(nil, append(env, "LDAPNETWORK_TIMEOUT=20"), ldapsearch, args...)
	}
	if out, err := search(command[0]); err != nil || !strings.Contains(out, found) {
		t.Errorf("ldapsearch: %v: %s", err, out)
	}
	trust, cert, key := "LDAPTLS_CACERT="+h.path("spine/trust.pem"), "LDAPTLS_CERT=", "LDAPTLS_KEY="
	if out, err := search(trust, cert+h.path("spine/fullchain.pem"), key+h.path("spine/key.pem")); err != nil || !strings.Contains(out, found) {
		t.Errorf("ldapsearch by variables: %v: %s", err, out)
	}
	for name, env := range map[string][]string{
		"LDAPCONF":          {"LDAPCONF=" + h.path("spine/ldaprc")}, // as the manual says
		"no certificate":    {trust},
		"one of a stranger": {trust, cert + h.path("foreign.crt"), key + h.path("foreign.key")},
		"a foreign root":    {command[0], "LDAPTLS_CACERT=" + h.path("foreign-root.pem")},
	} {
		if out, err := search(env...); err == nil || strings.Contains(out, found) {
			t.Errorf("%s: ldapsearch is answered: %s", name, out)
		}
	}
}
