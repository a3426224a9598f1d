package config

import (
	"crypto/tls"
	"slices"
	"strings"
)

// suites names what may be asked for, by IANA and OpenSSL name, in the order of SPINE.md, 2.
func suites() []suite {
	return []suite{
		{tls.TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
		{tls.TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
		{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
		{tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
	}
}

type suite struct {
	id            uint16
	iana, openssl string
}

// tls returns versions and suites of a tunnel. Without cipher_suites, those of SPINE.md, 2 are offered, and in a private
// environment, whose keys may be ECDSA, their twins as well.
func (r *reading) tls(raw *rawTLS, profile string) TLS {
	versions := map[string]uint16{"1.2": tls.VersionTLS12, "1.3": tls.VersionTLS13}
	t := TLS{
		MinVersion: versions[raw.MinVersion.text],
		MaxVersion: versions[raw.MaxVersion.text],
		Resumption: raw.Resumption.value,
	}
	if t.MinVersion > t.MaxVersion {
		r.fail(raw.MinVersion.place, "min_version is above max_version", `write max_version: "1.3" as well`)
	}
	if t.MaxVersion == tls.VersionTLS13 {
		r.warn(raw.MaxVersion.place, "TLS 1.3 is allowed, which no published rule of Spine permits", "use it only where both sides are yours")
	}
	for _, name := range raw.CipherSuites.items {
		id := r.cipherSuite(name)
		if slices.Contains(t.CipherSuites, id) && id != 0 {
			r.fail(name.place, "the suite is listed twice", "remove one of the two")
		}
		t.CipherSuites = append(t.CipherSuites, id)
	}
	if len(t.CipherSuites) > 0 && t.MinVersion == tls.VersionTLS13 {
		r.fail(raw.CipherSuites.place, "has no effect: only TLS 1.3 is allowed, whose suites are fixed", "remove it")
	}
	if len(t.CipherSuites) == 0 {
		for _, s := range suites()[:defaultSuites(profile)] {
			t.CipherSuites = append(t.CipherSuites, s.id)
		}
	}
	return t
}

func defaultSuites(profile string) int {
	if profile == "private" {
		return 4
	}
	return 2
}

func (r *reading) cipherSuite(t text) uint16 {
	name := strings.ToUpper(t.text)
	names := make([]string, 0, 8)
	for _, s := range suites() {
		if name == s.iana || name == s.openssl {
			if s.id == tls.TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA {
				r.warn(t.place, "the CBC suite ECDHE-RSA-AES256-SHA is offered", "remove it once every peer speaks a GCM suite")
			}
			return s.id
		}
		names = append(names, s.openssl)
	}
	switch {
	case strings.HasPrefix(name, "DHE-") || strings.HasPrefix(name, "EDH-") || strings.HasPrefix(name, "TLS_DHE_"):
		r.fail(t.place, "DHE suites are not offered", "Go's crypto/tls has no finite-field Diffie-Hellman, and every peer that speaks DHE speaks ECDHE: use ECDHE-RSA-AES256-GCM-SHA384")
	case strings.HasPrefix(name, "TLS_AES_") || strings.HasPrefix(name, "TLS_CHACHA20_"):
		r.fail(t.place, "the suites of TLS 1.3 are fixed", `remove it; max_version: "1.3" turns all of them on`)
	default:
		r.fail(t.place, "must be a supported cipher suite"+t.not(t.text), "use some of "+strings.Join(names, ", "))
	}
	return 0
}
