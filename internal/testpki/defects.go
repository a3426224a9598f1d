package testpki

import (
	"testing"

	"golang.org/x/crypto/cryptobyte"
	cbasn1 "golang.org/x/crypto/cryptobyte/asn1"
)

// Version1 returns the certificate der as one of X.509 version 1: signed anew by
// issuer, without the version and the extensions.
func Version1(tb testing.TB, der []byte, issuer *Authority) []byte {
	tb.Helper()
	input := cryptobyte.String(der)
	var cert, tbs, version, extensions cryptobyte.String
	if !input.ReadASN1(&cert, cbasn1.SEQUENCE) || !cert.ReadASN1(&tbs, cbasn1.SEQUENCE) ||
		!tbs.ReadASN1Element(&version, cbasn1.Tag(0).ContextSpecific().Constructed()) {
		tb.Fatal("make version 1: the certificate does not read")
	}
	var fields []byte
	for !tbs.PeekASN1Tag(cbasn1.Tag(3).ContextSpecific().Constructed()) {
		var field cryptobyte.String
		var tag cbasn1.Tag
		if !tbs.ReadAnyASN1Element(&field, &tag) {
			tb.Fatal("make version 1: the certificate has no extensions")
		}
		fields = append(fields, field...)
	}
	if !tbs.ReadASN1Element(&extensions, cbasn1.Tag(3).ContextSpecific().Constructed()) || !tbs.Empty() {
		tb.Fatal("make version 1: the certificate does not end with its extensions")
	}
	return signed(tb, appendTLV(nil, 0x30, fields), algorithmFor(tb, issuer.Key, false), issuer.Key, false)
}
