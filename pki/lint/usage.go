package lint

import (
	"crypto/x509"
	"slices"
)

// usageRows are the rules about what a key may be used for.
func usageRows() []row {
	return []row{
		{Rule{"leaf-is-ca", of(TargetLeaf), "An endpoint's certificate is not that of a CA.",
			"RFC 5280, Section 4.2.1.9", Error, "do not use it: whoever has its key can issue certificates; make a request with spinecert csr new"}, func(s *subject) string {
			switch {
			case s.cert.BasicConstraintsValid && s.cert.IsCA:
				return "the basic constraints say that it is a CA"
			case s.cert.KeyUsage&x509.KeyUsageCertSign != 0:
				return "the key usage has keyCertSign"
			}
			return ""
		}},
		{Rule{"key-usage", of(TargetLeaf), "The key usage, if there is any, has digitalSignature.",
			"RFC 5246, Section 7.4.2", Error, "the key may sign no handshake: have it issued again with digitalSignature"}, func(s *subject) string {
			if s.has(oidKeyUsage) && s.cert.KeyUsage&x509.KeyUsageDigitalSignature == 0 {
				return "the key usage lacks digitalSignature"
			}
			return ""
		}},
		{Rule{"purposes-missing", of(TargetLeaf), "The certificate says that it is for TLS: there is an extended key usage.",
			spine3, Warning, "it is good for every purpose, and some programs refuse that; have it issued again with serverAuth and clientAuth"}, func(s *subject) string {
			if !s.has(oidExtKeyUsage) {
				return "there is no extended key usage"
			}
			return ""
		}},
		{Rule{"purposes-wrong", of(TargetLeaf, TargetCA), "The extended key usage, if there is any, has serverAuth or clientAuth.",
			spine3, Error, "it cannot be used for TLS (wrong_purpose): have it issued again with serverAuth and clientAuth"}, func(s *subject) string {
			server, client, anything := purposes(s.cert)
			if s.has(oidExtKeyUsage) && !server && !client && !anything {
				return "the extended key usage has neither serverAuth nor clientAuth"
			}
			return ""
		}},
		{Rule{"purposes-one-sided", of(TargetLeaf, TargetCA), "The extended key usage, if there is any, has both serverAuth and clientAuth.",
			spine3, Warning, "it serves in one direction only, and is refused in the other (wrong_purpose); the NHS issues for both"}, func(s *subject) string {
			switch server, client, anything := purposes(s.cert); {
			case server && !client && !anything:
				return "the extended key usage lacks clientAuth"
			case client && !server && !anything:
				return "the extended key usage lacks serverAuth"
			}
			return ""
		}},
		{Rule{"purposes-any", of(TargetLeaf), "The extended key usage does not have anyExtendedKeyUsage.",
			"RFC 5280, Section 4.2.1.12", Warning, "it is good for signing code and mail too: have it issued again with serverAuth and clientAuth alone"}, func(s *subject) string {
			if _, _, anything := purposes(s.cert); anything {
				return "the extended key usage has anyExtendedKeyUsage"
			}
			return ""
		}},
	}
}

func purposes(c *x509.Certificate) (server, client, anything bool) {
	return slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageServerAuth),
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageClientAuth),
		slices.Contains(c.ExtKeyUsage, x509.ExtKeyUsageAny)
}

// authorityRows are the rules for CAs alone.
func authorityRows() []row {
	return []row{
		{Rule{"ca-basic-constraints", of(TargetCA), "The basic constraints say that it is a CA.",
			"RFC 5280, Section 4.2.1.9", Error, "it can issue nothing: take it out of the trust files, and get the CA's own certificate"}, func(s *subject) string {
			if s.cert.Version < 3 {
				return "" // it has no extensions at all, and a rule of its own
			}
			if !s.cert.BasicConstraintsValid || !s.cert.IsCA {
				return "it may sign certificates, but the basic constraints do not say that it is a CA"
			}
			return ""
		}},
		{Rule{"ca-basic-constraints-critical", of(TargetCA), "The basic constraints are critical.",
			"RFC 5280, Section 4.2.1.9", Info, "nothing: those of the NHS's G1 are not either"}, func(s *subject) string {
			if e := s.extension(oidBasicConstraints); e != nil && !e.Critical {
				return "the basic constraints are not critical"
			}
			return ""
		}},
		{Rule{"ca-key-usage-missing", of(TargetCA), "There is a key usage.",
			"RFC 5280, Section 4.2.1.3", Warning, "tell the CA: programs may refuse what it issues"}, func(s *subject) string {
			if !s.has(oidKeyUsage) {
				return "there is no key usage"
			}
			return ""
		}},
		{Rule{"ca-key-cert-sign", of(TargetCA), "The key usage, if there is any, has keyCertSign.",
			"RFC 5280, Section 4.2.1.3", Error, "nothing that it issued is accepted: get the CA's certificate again"}, func(s *subject) string {
			if s.has(oidKeyUsage) && s.cert.KeyUsage&x509.KeyUsageCertSign == 0 {
				return "the key usage lacks keyCertSign"
			}
			return ""
		}},
		{Rule{"ca-crl-sign", of(TargetCA), "The key usage, if there is any, has cRLSign.",
			"RFC 5280, Section 4.2.1.3", Warning, "its CRLs are refused (crl_invalid): ask the CA who signs them"}, func(s *subject) string {
			if s.has(oidKeyUsage) && s.cert.KeyUsage&x509.KeyUsageCRLSign == 0 {
				return "the key usage lacks cRLSign"
			}
			return ""
		}},
		{Rule{"ca-subject-key-id", of(TargetCA), "There is a subject key identifier.",
			"RFC 5280, Section 4.2.1.2", Warning, "tell the CA: names do not tell two CAs of one name apart"}, func(s *subject) string {
			if len(s.cert.SubjectKeyId) == 0 {
				return "there is no subject key identifier"
			}
			return ""
		}},
		{Rule{"ca-subject-empty", of(TargetCA), "The subject has a name.",
			"RFC 5280, Section 4.1.2.6", Error, "no chain can be built with it: get the CA's certificate again"}, func(s *subject) string {
			if len(s.attributes) == 0 {
				return "the name of the subject is empty"
			}
			return ""
		}},
		{Rule{"ca-path-length", of(TargetCA), "A subCA has a path length.",
			spine3, Info, "nothing: those of the NHS's G1 have none either; without it the subCA can make others below it"}, func(s *subject) string {
			if s.cert.BasicConstraintsValid && s.cert.IsCA && s.cert.MaxPathLen < 0 && !s.root {
				return "there is no limit on the length of the path"
			}
			return ""
		}},
		{Rule{"ca-name-constraints-critical", of(TargetCA), "Name constraints are critical.",
			"RFC 5280, Section 4.2.1.10", Warning, "programs that do not know them pass over them: tell the CA"}, func(s *subject) string {
			if e := s.extension(oidNameConstraints); e != nil && !e.Critical {
				return "the name constraints are not critical"
			}
			return ""
		}},
	}
}
