package trust

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
)

// KnownCA describes a CA certificate of the NHS PKI that the program knows by
// its fingerprint (SPINE.md, 3).
type KnownCA struct {
	Name        string // common name
	Environment string // live, ptl (the shared path-to-live root), int, dep
	Generation  string // G1 or G2
	Root        bool
	fingerprint string // SHA-256 of the DER, lower-case hex
	keyID       string // subject key identifier, lower-case hex
}

// knownCAs is constant data (SPINE.md, 3; read from the published bundles).
var knownCAs = [...]KnownCA{
	{"NHS Root Authority G2", "live", "G2", true, "c418cfa50aad03d826fa1a6932b8187be18193f4b25a7a56f30df45d5f89f8f7", "8f9cb003a13590861dd61b785205c9c4b5403134"},
	{"NHS Authentication G2", "live", "G2", false, "1cb94b89dd6e3cbeb498f43f85aac7f7ea3a833805ba0a37396d669eaa794639", "94a2507df7c8ea6dd5a50dc169b3cf65f898baa2"},
	{"NHS Root Authority", "live", "G1", true, "cb7f39edd261631fe95995030f793c90d3db6d84912b0ff7a1a96fedea6d9f10", "e3271793cc2b9edfb556757273c2d70ba09df05b"},
	{"NHS Level 1C", "live", "G1", false, "b2a983f5284f267c9e7705af4a69387b8d2af5e281e194e6a279e033b06c7fdf", "ba69a3e37ae27c3d3757526fe9f313644ce1c0b5"},
	{"NHS PTL Root Authority G2", "ptl", "G2", true, "540f7cd6111510ef8a4a78939b39a075c71a68f0ce71bbf28141f7c6be357f8f", "f5b6d552a8bd78fe72616b3b5d8c23c0b0160cf3"},
	{"NHS INT Authentication G2", "int", "G2", false, "eb17b9fe90a19dbfe962bf41d3c907558f6f787e2fd1602268dfca9d3fdbf857", "16c74704a860c9e45dab99f294f7c3de3398d422"},
	{"NHS PTL Root Authority", "ptl", "G1", true, "7759a087977a9e37793093561149ee40b299c7027f4fa2a1c4e9eefeabc1b7d8", "cf8803aca9edded1000a80800040b80388c89052"},
	{"NHS INT Level 1C", "int", "G1", false, "67465bf8d72d1493d441ad1bc8f08b1ec2de9771c1cc40bb09b11bb72de14c0e", "0006826daba61243edb60df4e63cc420c1619ba0"},
	{"NHS DEP Level 1C", "dep", "G1", false, "7e1c6b1244af68ec864f3af7fd020d052c2a096f3e58b6dec21c07a584d8ca41", "656e25da60b228cea3e4909f881b5789dde7203d"},
}

// Known returns what the program knows of a CA certificate, by its SHA-256 fingerprint.
func Known(c *x509.Certificate) (KnownCA, bool) {
	sum := sha256.Sum256(c.Raw)
	return KnownFingerprint(hex.EncodeToString(sum[:]))
}

// knownIssuer returns the NHS CA that c claims as its issuer, by the authority
// key identifier. It is a claim: use it to explain a refusal, never to accept.
func knownIssuer(c *x509.Certificate) (KnownCA, bool) {
	if len(c.AuthorityKeyId) == 0 {
		return KnownCA{}, false
	}
	id := hex.EncodeToString(c.AuthorityKeyId)
	for _, k := range knownCAs {
		if k.keyID == id {
			return k, true
		}
	}
	return KnownCA{}, false
}
