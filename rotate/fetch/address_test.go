package fetch

import (
	"net/netip"
	"net/url"
	"strings"
	"testing"
)

func TestPermits(t *testing.T) {
	long := "http://crl.nhs.uk/" + strings.Repeat("a", maxAddress)
	tests := map[string]string{
		"http://crl.nhs.uk/int/1d/crlc3.crl":      "",
		"http://crl.nhs.uk":                       "",
		"http://crl.nhs.uk/?a=b":                  "",
		"HTTP://CRL.NHS.UK./a.crl":                "",
		"http://crl.nhs.uk:80/":                   "",
		"http://port.example:8080/":               "",
		"http://10.1.2.3/":                        "",
		"http://[::ffff:10.1.2.3]/":               "",
		"http://10.9.9.9:8080/":                   "",
		"http://172.16.200.1/":                    "",
		"http://[fd00::1]/":                       "",
		"http://[fd00::2]:8080/":                  "",
		long[:maxAddress]:                         "",
		"":                                        Malformed,
		long[:maxAddress+1]:                       Malformed,
		"http://":                                 Malformed,
		"http:///a":                               Malformed,
		"http:crl.nhs.uk":                         Malformed,
		"//crl.nhs.uk/a":                          NotPermitted,
		"/a":                                      NotPermitted,
		"crl.nhs.uk/a":                            NotPermitted,
		"file:///etc/passwd":                      NotPermitted,
		"ftp://crl.nhs.uk/":                       NotPermitted,
		"ldap://crl.nhs.uk/cn=a":                  NotPermitted,
		"https://crl.nhs.uk/":                     NotPermitted,
		"http://crl.nhs.uk:8080/":                 NotPermitted,
		"http://crl.nhs.uk:443/":                  NotPermitted,
		"http://port.example/":                    NotPermitted,
		"http://crl.nhs.uk.evil.example/":         NotPermitted,
		"http://evilcrl.nhs.uk/":                  NotPermitted,
		"http://x.crl.nhs.uk/":                    NotPermitted,
		"http://nhs.uk/":                          NotPermitted,
		"http://crl-nhs.uk/":                      NotPermitted,
		"http://10.1.2.4/":                        NotPermitted,
		"http://10.1.2.3:8080/":                   NotPermitted,
		"http://10.9.9.9/":                        NotPermitted,
		"http://172.32.0.1/":                      NotPermitted,
		"http://172.16.200.1:8080/":               NotPermitted,
		"http://127.0.0.1/":                       NotPermitted,
		"http://[::1]/":                           NotPermitted,
		"http://93.184.216.34/":                   NotPermitted,
		"http://localhost/":                       NotPermitted,
		"http://user@crl.nhs.uk/":                 Malformed,
		"http://user:pass@crl.nhs.uk/":            Malformed,
		"http://crl.nhs.uk@evil.example/":         Malformed,
		"http://@crl.nhs.uk/":                     Malformed,
		"http://crl.nhs.uk/#":                     Malformed,
		"http://crl.nhs.uk/#@evil.example/":       Malformed,
		"http://evil.example#@crl.nhs.uk/":        Malformed,
		`http://crl.nhs.uk/a\b`:                   Malformed,
		`http://crl.nhs.uk\@evil.example/`:        Malformed,
		`http://crl.nhs.uk\.evil.example/`:        Malformed,
		"http://crl.nhs.uk /":                     Malformed,
		" http://crl.nhs.uk/":                     Malformed,
		"http://crl.nhs.uk/a\r\nHost: x":          Malformed,
		"http://crl.nhs.uk/\x00":                  Malformed,
		"http://crl.nhs.uk/\u202e":                Malformed,
		"http://crl.n\u04bbs.uk/":                 Malformed, // a look-alike
		"http://crl.nhs.uk%2eevil.example/":       Malformed,
		"http://crl.nhs.uk../":                    Malformed,
		"http://.crl.nhs.uk/":                     Malformed,
		"http://crl.nhs.uk:/":                     Malformed,
		"http://crl.nhs.uk:080/":                  Malformed,
		"http://crl.nhs.uk:0/":                    Malformed,
		"http://crl.nhs.uk:65616/":                Malformed, // 80, modulo 65536
		"http://crl.nhs.uk:+80/":                  Malformed,
		"http://crl.nhs.uk:80:80/":                Malformed,
		"http://127.1/":                           Malformed, // 127.0.0.1 to some resolvers
		"http://0x7f.0.0.1/":                      Malformed,
		"http://0177.0.0.1/":                      Malformed,
		"http://2130706433/":                      Malformed,
		"http://0x7f000001/":                      Malformed,
		"http://[fe80::1%25eth0]/":                Malformed,
		"http://[10.1.2.3]/":                      Malformed,
		"http://fd00::1/":                         Malformed,
		"http://" + strings.Repeat("a", 64) + "/": Malformed,
	}
	c := client(t, Config{Hosts: []string{"CRL.nhs.uk.", "port.example:8080", "10.1.2.3", "10.9.9.9:8080", "172.16.0.0/12", "fd00::1", "[fd00::2]:8080"}})
	for address, reason := range tests {
		t.Run(address, func(t *testing.T) {
			err := c.Permits(address)
			if reason == "" && err != nil {
				t.Error(err)
			}
			if reason != "" {
				refused(t, err, reason)
			}
			if _, _, asked := get(t, client(t, Config{}), address, Known{}); asked == nil {
				t.Error("asked without any host permitted")
			}
		})
	}
	refused(t, c.Permits("http://other.example:81/a"), NotPermitted, `"other.example:81"`, `hint: add "other.example:81" to crl.hosts`)
}

func TestPermitsTLS(t *testing.T) {
	c := client(t, Config{Hosts: []string{"crl.nhs.uk", "port.example:80"}, TLS: true})
	for _, address := range []string{"http://crl.nhs.uk/", "https://crl.nhs.uk/", "https://crl.nhs.uk:443/", "https://port.example:80/"} {
		if err := c.Permits(address); err != nil {
			t.Error(err)
		}
	}
	for _, address := range []string{"https://crl.nhs.uk:80/", "http://crl.nhs.uk:443/", "https://port.example/"} {
		refused(t, c.Permits(address), NotPermitted)
	}
}

// TestTarget has the request made of what was judged, in one spelling.
func TestTarget(t *testing.T) {
	for address, want := range map[string]string{
		"HTTP://CRL.nhs.uk.:80/A?b":     "http://crl.nhs.uk/A?b",
		"http://[::FFFF:10.1.2.3]:81/":  "http://10.1.2.3:81/",
		"http://[fd00:0::1]:80/a":       "http://[fd00::1]/a",
		"https://crl.nhs.uk:443/%41%2f": "https://crl.nhs.uk/%41%2f",
	} {
		got, f := parse(address)
		if f != nil {
			t.Fatal(f)
		}
		if got.url.String() != want {
			t.Errorf("%s became %s, want %s", address, got.url, want)
		}
	}
}

func TestInward(t *testing.T) {
	private := strings.Fields(`0.0.0.0 0.1.2.3 10.0.0.1 10.255.255.255 100.64.0.1 100.127.255.255 127.0.0.1
		127.255.0.1 169.254.169.254 172.16.0.1 172.31.255.255 192.0.0.8 192.0.2.1 192.88.99.1 192.168.0.1 198.18.0.1
		198.19.255.255 198.51.100.7 203.0.113.9 224.0.0.1 239.255.255.255 240.0.0.1 255.255.255.255
		:: ::1 ::127.0.0.1 ::8.8.8.8 ::ffff:127.0.0.1 ::ffff:10.0.0.1 64:ff9b::127.0.0.1 64:ff9b::10.1.2.3 64:ff9b:1::1
		2002:7f00:1:: 2002:0a01:0203::5 100::1 2001::1 2001:10::1 2001:db8::1 3fff::1 fc00::1 fd12::1 fe80::1 fe80::1%eth0
		fec0::1 ff02::1 4000::1 5f00::1`)
	public := strings.Fields(`1.1.1.1 9.255.255.255 11.0.0.0 100.63.255.255 100.128.0.0 126.255.255.255 128.0.0.1 172.15.255.255
		172.32.0.0 192.167.255.255 192.169.0.0 198.17.255.255 198.20.0.0 223.255.255.255 ::ffff:8.8.8.8 64:ff9b::8.8.8.8
		2002:0808:0808:: 2001:200::1 2606:4700::1111 2a00:1450::1`)
	for _, a := range private {
		if !inward(netip.MustParseAddr(a)) {
			t.Errorf("%s counts as public", a)
		}
	}
	for _, a := range public {
		if inward(netip.MustParseAddr(a)) {
			t.Errorf("%s counts as private", a)
		}
	}
	if !inward(netip.Addr{}) {
		t.Error("no address counts as public")
	}
}

func TestReach(t *testing.T) {
	c := client(t, Config{Hosts: []string{"crl.nhs.uk", "10.1.2.3", "10.9.9.9:8080", "172.16.0.0/12", "fd00::/8"}})
	for _, a := range []string{"8.8.8.8:80", "10.1.2.3:80", "10.1.2.3:8080", "10.9.9.9:8080", "172.31.0.1:80", "[fd01::1]:80", "[::ffff:10.1.2.3]:80"} {
		if f := c.reach(netip.MustParseAddrPort(a)); f != nil {
			t.Errorf("%s: %v", a, f)
		}
	}
	for _, a := range []string{"10.1.2.4:80", "10.9.9.9:80", "127.0.0.1:80", "[fc00::1]:80", "[64:ff9b::a01:203]:80", "[2002:a01:203::]:80"} {
		f := c.reach(netip.MustParseAddrPort(a))
		if f == nil {
			t.Errorf("%s may be connected to", a)
			continue
		}
		refused(t, f.of("http://crl.nhs.uk/"), PrivateAddress, "hint: CIDR", "hint: crl.hosts")
	}
}

func TestCheckHost(t *testing.T) {
	for _, entry := range []string{"crl.nhs.uk", "CRL.NHS.UK.", "crl.nhs.uk:8080", "localhost", "xn--e1afmkfd.example", "a_b.example",
		"10.1.2.3", "10.1.2.3:80", "::1", "[::1]:80", "10.0.0.0/8", "10.1.2.3/32", "fd00::/8", "fc00::/7"} {
		if err := CheckHost(entry); err != nil {
			t.Error(err)
		}
	}
	for _, entry := range []string{"", " ", ".", "*", "*.nhs.uk", "http://crl.nhs.uk", "crl.nhs.uk/path", "crl.nhs.uk:", ":80", "crl.nhs.uk:0",
		"crl.nhs.uk:65536", "crl.nhs.uk:http", "crl.nhs.uk:80:80", "crl nhs", "a..b", "user@crl.nhs.uk", "\u212a.example", "h\u00f6st.example",
		"10.1.2", "127.1", "0x7f.1", "10.1.2.3.4", "10.1.2.3:0", "[10.1.2.3]:80", "[::1]", "fe80::1%eth0", "[fe80::1%eth0]:80",
		"10.0.0.1/8", "10.0.0.0/33", "0.0.0.0/0", "::/0", "::ffff:10.0.0.0/104", strings.Repeat("a", 64), strings.Repeat("a.", 127) + "aa"} {
		if err := CheckHost(entry); err == nil {
			t.Errorf("%q passes", entry)
		} else if len(err.Error()) > 1000 {
			t.Errorf("%q: %d bytes of error", entry, len(err.Error()))
		}
	}
}

func TestNew(t *testing.T) {
	_, err := New(Config{Hosts: []string{"a b", "crl.nhs.uk", "*.nhs.uk"}, Proxy: "http://user:hunter2@proxy:3128", MaxBytes: -1})
	if err == nil {
		t.Fatal("passes")
	}
	for _, text := range []string{`"a b"`, `"*.nhs.uk"`, "no user and password", "-1 bytes"} {
		if !strings.Contains(err.Error(), text) {
			t.Errorf("%v: does not name %s", err, text)
		}
	}
	if strings.Contains(err.Error(), "hunter2") {
		t.Errorf("shows the password: %v", err)
	}
	for _, proxy := range []string{"http://proxy:3128", "http://proxy:3128/", "http://10.0.0.1:3128", "http://[::1]:3128"} {
		if _, err := New(Config{Proxy: proxy}); err != nil {
			t.Error(err)
		}
	}
	for _, proxy := range []string{"proxy:3128", "http://proxy", "http://proxy:0", "http://:3128", "https://proxy:3128", "socks5://proxy:1080",
		"http://proxy:3128/path", "http://proxy:3128?a", "http://proxy:3128/?", "http://proxy:3128#a", "http://10.0.0.0/8:3128", "http://us:hunter2%@proxy:1", "http://us:hun/ter2@proxy:1", "://hunter2@"} {
		if _, err := New(Config{Proxy: proxy}); err == nil {
			t.Errorf("proxy %q passes", proxy)
		} else if strings.Contains(err.Error(), "ter2") {
			t.Errorf("shows the password: %v", err)
		}
	}
	if c, err := New(Config{}); err != nil || c.maxBytes != 64<<20 {
		t.Errorf("without anything: %v, %v", c, err)
	}
}

func FuzzPermits(f *testing.F) {
	for _, seed := range []string{"http://crl.nhs.uk/a", "http://crl.nhs.uk:80@evil/", "http://10.1.2.3/", "https://[fd00::1]:8080/#", "http://crl.nhs.uk\\@evil", "http:crl.nhs.uk", "http://[::ffff:10.1.2.3]"} {
		f.Add(seed)
	}
	c, err := New(Config{Hosts: []string{"crl.nhs.uk", "10.1.2.0/24", "fd00::1"}})
	if err != nil {
		f.Fatal(err)
	}
	f.Fuzz(func(t *testing.T, address string) {
		if err := c.Permits(address); err != nil {
			if text := err.Error(); len(text) > 4000 || strings.ContainsAny(text, "\r\n\x00") {
				t.Errorf("%q", text)
			}
			return
		}
		got, f := parse(address)
		if f != nil {
			t.Fatal(f)
		}
		u, err := url.Parse(got.url.String()) // another reader of what is asked
		if err != nil {
			t.Fatal(err)
		}
		a, err := netip.ParseAddr(u.Hostname())
		listed := u.Hostname() == "crl.nhs.uk" || err == nil && (netip.MustParsePrefix("10.1.2.0/24").Contains(a) || a == netip.MustParseAddr("fd00::1"))
		if u.Scheme != "http" || !listed || u.Port() != "" || u.User != nil || len(address) > maxAddress {
			t.Errorf("%q is asked as %q", address, u)
		}
	})
}
