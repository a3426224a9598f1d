package trust

// The worlds of the NHS PKI: chains of one never lead to the other (SPINE.md, 1).
const (
	WorldLive = "live"
	WorldPTL  = "ptl" // path to live: int, dep and the others
)

// World returns the world that a CA belongs to, [WorldLive] or [WorldPTL].
func (k KnownCA) World() string {
	if k.Environment == "live" {
		return WorldLive
	}
	return WorldPTL
}

// PublishedCA is where the NHS publishes a CA certificate.
type PublishedCA struct {
	Address string
	World   string
	Root    bool
}

// published is constant data (SPINE.md, 3).
var published = [...]PublishedCA{
	{"https://pki.nhs.uk/live/G2/root/NHSRootAuthorityG2.crt", WorldLive, true},
	{"https://pki.nhs.uk/live/G2/auth/NHSauthG2.crt", WorldLive, false},
	{"http://pki.nhs.uk/PTL/G2/root/NHSPTLRootAuthorityG2.crt", WorldPTL, true},
	{"http://pki.nhs.uk/int/G2/auth/NHSINTAuthG2.crt", WorldPTL, false},
}

// Published returns where the CA certificates of a world are published, roots
// first. That something came from there says nothing: see [Known].
func Published(world string) []PublishedCA {
	var out []PublishedCA
	for _, p := range published {
		if p.World == world {
			out = append(out, p)
		}
	}
	return out
}

// PublishedHost is the only host of [Published].
const PublishedHost = "pki.nhs.uk"

// KnownFingerprint is [Known] for a SHA-256 in lower-case hex.
func KnownFingerprint(sum string) (KnownCA, bool) {
	for _, k := range knownCAs {
		if k.fingerprint == sum {
			return k, true
		}
	}
	return KnownCA{}, false
}
