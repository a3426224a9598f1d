package state

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"io/fs"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/spinecert/spinecert/pki"
)

// slot looks at all that a slot has.
func (v *verifier) slot(slot string) {
	base := join(slotsName, slot)
	if v.d.lock != nil { // our own changes: what is under way is no finding
		defer v.d.hold(base)()
	}
	if !v.entry(base, unix.S_IFDIR, dirPermissions) {
		return
	}
	names, err := v.d.names(base)
	if err != nil {
		v.broken(base, err)
	}
	for _, name := range names {
		switch name {
		case generationsName, requestsName:
			v.entry(join(base, name), unix.S_IFDIR, dirPermissions)
		case currentName:
		default:
			v.odd(join(base, name))
		}
	}
	v.generations(slot)
	v.requests(slot)
}

func (v *verifier) generations(slot string) {
	dir := join(slotsName, slot, generationsName)
	names, err := v.d.names(dir)
	if err != nil {
		v.broken(dir, err)
	}
	count := 0
	for _, name := range names {
		number, ok := parseNumber(name)
		if !ok {
			v.odd(join(dir, name))
			continue
		}
		count++
		path := generationPath(slot, number)
		v.unit(path, []string{certFile, chainFile, fullchainFile, keyFile, generationFile}, func() { v.generation(path, slot, number) })
	}
	v.current(slot, count)
}

// current looks at the link. The first generation may wait for it since a crash;
// one that is there may be swapped while we look.
func (v *verifier) current(slot string, generations int) {
	name := join(slotsName, slot, currentName)
	hint := fmt.Sprintf("stop the daemon, then: ln -sfn %s/N %q, where N is the generation to serve", generationsName, v.d.abs(name))
	before := ""
	for {
		target, err := v.d.readlink(name)
		if errors.Is(err, fs.ErrNotExist) {
			if generations > 1 {
				v.find(name, CodeCurrent, "is missing, and there are generations", hint)
			}
			return
		}
		if err != nil {
			v.find(name, CodeCurrent, fmt.Sprint(cause(err)), hint)
			return
		}
		number, ok := linkNumber(target)
		switch {
		case !ok:
			v.find(name, CodeCurrent, "does not lead to a generation of its slot", hint)
			return
		case v.d.exists(generationPath(slot, number)):
			return
		case target == before:
			v.find(name, CodeCurrent, fmt.Sprintf("leads to generation %d, which is missing", number), hint)
			return
		}
		before = target
	}
}

// generation looks at what is in the files of a generation.
func (v *verifier) generation(dir, slot string, number uint64) {
	full, ok := v.certificates(join(dir, fullchainFile))
	if !ok {
		return
	}
	if len(full) == 0 {
		v.find(join(dir, fullchainFile), CodeUnreadable, "holds no certificate", mendHint)
		return
	}
	v.same(join(dir, certFile), full[:1], CodeDigest)
	v.same(join(dir, chainFile), full[1:], CodeChain)
	for i := range full[1:] {
		if !pki.IssuedBy(full[i], full[i+1]) {
			v.find(join(dir, fullchainFile), CodeChain, fmt.Sprintf("certificate %d was not issued by the one after it", i+1), mendHint)
		}
	}
	v.key(join(dir, keyFile), full[0].PublicKey, "the certificate")
	v.description(join(dir, generationFile), slot, number, full)
}

// certificates reads a file of certificates.
func (v *verifier) certificates(name string) ([]*x509.Certificate, bool) {
	data, err := v.d.readFile(name)
	var raw [][]byte
	if err == nil {
		raw, err = blocks(data)
	}
	var out []*x509.Certificate
	for _, der := range raw {
		c, parseErr := x509.ParseCertificate(der)
		out, err = append(out, c), errors.Join(err, parseErr)
	}
	if err != nil {
		v.broken(name, err)
	}
	return out, err == nil
}

// same wants the file to hold these certificates.
func (v *verifier) same(name string, want []*x509.Certificate, code string) {
	got, ok := v.certificates(name)
	if ok && !slices.EqualFunc(got, want, (*x509.Certificate).Equal) {
		v.find(name, code, "does not hold what fullchain.pem holds", mendHint)
	}
}

// key wants a file to hold the private key of pub.
func (v *verifier) key(name string, pub crypto.PublicKey, of string) {
	data, err := v.d.readFile(name)
	var key crypto.Signer
	if err == nil {
		key, err = pki.ParseKey(data)
	}
	switch {
	case err != nil:
		v.broken(name, err)
	case pki.KeyFingerprint(key.Public()) != pki.KeyFingerprint(pub):
		v.find(name, CodeKeyMismatch, "is not the key of "+of, mendHint)
	}
}

// description holds generation.json against the certificates.
func (v *verifier) description(name, slot string, number uint64, certs []*x509.Certificate) {
	data, err := v.d.readFile(name)
	var g generation
	if err == nil {
		g, err = parseGeneration(data)
	}
	if err != nil {
		v.broken(name, err)
		return
	}
	want := describe(slot, g.record(), certs)
	var wrong []string
	for _, c := range []struct {
		key  string
		same bool
	}{
		{"number", g.Number == number}, {"slot", g.Slot == slot}, {"environment", checkName("environment", g.Environment) == nil},
		{"digest", g.Digest == digestOf(raws(certs))},
		{"not_before", g.NotBefore.Equal(want.NotBefore)}, {"not_after", g.NotAfter.Equal(want.NotAfter)},
		{"serial", g.Serial == want.Serial}, {"sha256", g.SHA256 == want.SHA256}, {"key_sha256", g.KeySHA256 == want.KeySHA256},
	} {
		if !c.same {
			wrong = append(wrong, c.key)
		}
	}
	if len(wrong) > 0 {
		v.find(name, CodeDigest, "does not describe the certificate in fullchain.pem: "+strings.Join(wrong, ", "), mendHint)
	}
}

func (v *verifier) requests(slot string) {
	dir := join(slotsName, slot, requestsName)
	ids, err := v.d.names(dir)
	if err != nil {
		v.broken(dir, err)
	}
	for _, id := range ids {
		if checkID(id) != nil {
			v.odd(join(dir, id))
			continue
		}
		path := requestPath(slot, id)
		v.unit(path, []string{keyFile, csrFile, requestFile, answerFile}, func() { v.request(path, slot, id) })
	}
}

// request looks at what is in the files of a request.
func (v *verifier) request(dir, slot, id string) {
	const hint = "spinecert csr cancel it and make a new one, or restore the directory from a backup"
	name := join(dir, requestFile)
	data, err := v.d.readFile(name)
	var r request
	if err == nil {
		r, err = parseRequest(data)
	}
	if err != nil {
		v.broken(name, err)
	} else if r.ID != id || r.Slot != slot {
		v.find(name, CodeDigest, fmt.Sprintf("is of request %s of slot %s", r.ID, r.Slot), hint)
	}
	name = join(dir, csrFile)
	if data, err = v.d.readFile(name); err != nil {
		v.broken(name, err)
	} else if err := checkCSR(data, id); err != nil {
		v.find(name, CodeKeyMismatch, err.Error(), hint)
	}
	v.requestKey(slot, id, hint)
	name = join(dir, answerFile)
	if data, err = v.d.readFile(name); errors.Is(err, fs.ErrNotExist) {
		return
	} else if err == nil {
		_, err = parseAnswer(data, id)
	}
	if err != nil {
		v.broken(name, err)
	}
}

func (v *verifier) requestKey(slot, id, hint string) {
	name := join(requestPath(slot, id), keyFile)
	data, err := v.d.readFile(name)
	var key crypto.Signer
	if err == nil {
		key, err = pki.ParseKey(data)
	}
	switch {
	case err != nil:
		v.broken(name, err)
	case pki.RequestID(key.Public()) != id:
		v.find(name, CodeKeyMismatch, "is not the key of this request", hint)
	}
}

// trust looks at the certificates that were added to an environment.
func (v *verifier) trust(environment string) {
	dir := join(trustName, environment)
	if v.d.lock != nil {
		defer v.d.hold(dir)()
	}
	if !v.entry(dir, unix.S_IFDIR, dirPermissions) {
		return
	}
	names, err := v.d.names(dir)
	if err != nil {
		v.broken(dir, err)
	}
	for _, base := range names {
		name := join(dir, base)
		sum, ok := strings.CutSuffix(base, trustSuffix)
		if !ok || !sumPattern.MatchString(sum) {
			v.odd(name)
			continue
		}
		before := len(v.findings)
		v.checked++
		if v.entry(name, unix.S_IFREG, filePermissions) {
			v.certificate(name, sum)
		}
		if len(v.findings) > before && !v.d.exists(name) {
			v.findings = v.findings[:before]
		}
	}
}

// certificate wants the one certificate with this fingerprint.
func (v *verifier) certificate(name, sum string) {
	data, err := v.d.readFile(name)
	var certs []*x509.Certificate
	if err == nil {
		certs, err = pki.ParseCertificates(data)
	}
	switch {
	case err != nil:
		v.broken(name, err)
	case len(certs) != 1 || pki.Fingerprint(certs[0]) != sum || !bytes.Equal(data, pki.EncodeCertificates(certs[0])):
		v.find(name, CodeDigest, "is not the certificate that its name says", "spinecert trust add it again, or remove the file")
	}
}
