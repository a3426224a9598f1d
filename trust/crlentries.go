package trust

import (
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	"golang.org/x/crypto/cryptobyte/asn1"
)

// readCRLEntries makes the index straight from the DER. It goes over the
// entries once to learn their number and the longest serial number, so that the
// index is allocated once, at its size, and a second time to fill it.
func readCRLEntries(revoked cryptobyte.String) (*crlIndex, error) {
	n, width := 0, 0
	var entry cryptobyte.String
	for rest := revoked; !rest.Empty(); n++ {
		if !rest.ReadASN1(&entry, asn1.SEQUENCE) {
			return nil, crlFault(Malformed, "entry %d is not a DER sequence", n+1)
		}
		key, err := readEntrySerial(&entry)
		if err != nil {
			return nil, err.in(n + 1)
		}
		width = max(width, key.width())
	}
	index := newCRLIndex(n, width)
	for i := range n {
		revoked.ReadASN1(&entry, asn1.SEQUENCE)
		key, date, reason, err := readCRLEntry(entry)
		if err != nil {
			return nil, err.in(i + 1)
		}
		index.append(&key, date, reason)
	}
	index.seal()
	return index, nil
}

// in says which entry the fault is in, counted from 1.
func (e *CRLError) in(entry int) *CRLError {
	e.Detail = fmt.Sprintf("entry %d: %s", entry, e.Detail)
	return e
}

func readCRLEntry(entry cryptobyte.String) (key crlKey, date time.Time, reason int, err *CRLError) {
	if key, err = readEntrySerial(&entry); err != nil {
		return key, date, reason, err
	}
	var ok bool
	if date, ok = readCRLTime(&entry); !ok {
		return key, date, reason, crlFault(Malformed, "its revocation date is not a time")
	}
	reason, err = readEntryExtensions(entry)
	return key, date, reason, err
}

func readEntrySerial(entry *cryptobyte.String) (crlKey, *CRLError) {
	var element, octets cryptobyte.String
	if !entry.ReadASN1Element(&element, asn1.INTEGER) {
		return crlKey{}, crlFault(Malformed, "its serial number is not an integer")
	}
	whole := element
	if !element.ReadASN1(&octets, asn1.INTEGER) || len(octets) == 0 ||
		len(octets) > 1 && (octets[0] == 0 && octets[1] < 0x80 || octets[0] == 0xff && octets[1] >= 0x80) {
		return crlKey{}, crlFault(Malformed, "its serial number is not a DER integer")
	}
	if octets[0] < 0x80 { // not negative
		if octets[0] == 0 {
			octets = octets[1:]
		}
		if len(octets) <= maxSerialOctets {
			return regularKey(octets), nil
		}
	}
	if len(octets) > maxOddSerialOctets {
		return crlKey{}, crlFault(CRLInvalid, "its serial number has %d octets; at most %d are read", len(octets), maxOddSerialOctets)
	}
	serial := new(big.Int)
	if !whole.ReadASN1Integer(serial) {
		return crlKey{}, crlFault(Malformed, "its serial number is not a DER integer")
	}
	key, _ := serialKey(serial)
	return key, nil
}

// readEntryExtensions returns the reason code (RFC 5280, Section 5.3).
func readEntryExtensions(entry cryptobyte.String) (reason int, _ *CRLError) {
	if entry.Empty() {
		return 0, nil
	}
	var extensions cryptobyte.String
	if !entry.ReadASN1(&extensions, asn1.SEQUENCE) || !entry.Empty() {
		return 0, crlFault(Malformed, "something other than extensions follows its date")
	}
	var seen crlExtensions
	for !extensions.Empty() {
		ext, err := seen.next(&extensions)
		if err != nil {
			return 0, err
		}
		switch string(ext.oid) {
		case oidReasonCode:
			if !ext.value.ReadASN1Enum(&reason) || !ext.value.Empty() {
				return 0, crlFault(Malformed, "its reason code does not parse")
			}
			if reason < 0 || reason > 10 || reason == 7 {
				reason = 0 // a reason without a meaning is a revocation all the same
			}
		case oidInvalidityDate: // tells when, not whether
		case oidCertificateIssuer:
			return 0, crlFault(CRLInvalid, "it names another issuer, as in an indirect CRL")
		default:
			if ext.critical { // RFC 5280, Section 5.3
				return 0, crlFault(CRLInvalid, "it has a critical extension that is not understood: %s", ext.name())
			}
		}
	}
	return reason, nil
}
