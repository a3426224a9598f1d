package state

import (
	"errors"
	"io/fs"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// sweepCRLs removes what a crash left among the lists: temporaries, and one half of
// a list that was new or was to go.
func (d *Directory) sweepCRLs() error {
	environments, err := d.names(crlName)
	errs := []error{err, d.sweepDir(crlName)}
	for _, environment := range environments {
		if checkName("environment", environment) != nil {
			continue
		}
		dir := join(crlName, environment)
		errs = append(errs, d.sweepDir(dir))
		names, err := d.names(dir)
		if err != nil {
			continue // no directory; Verify names it
		}
		for _, name := range names {
			if half := otherHalf(name); half != "" && !d.exists(join(dir, half)) {
				errs = append(errs, fail("remove crl", d.abs(dir, name), d.disk.Remove(d.abs(dir, name))))
			}
		}
	}
	return errors.Join(errs...)
}

// otherHalf names the file that belongs to a file of a list; "" is said of others.
func otherHalf(name string) string {
	sum, suffix := name, ""
	if i := strings.IndexByte(name, '.'); i >= 0 {
		sum, suffix = name[:i], name[i:]
	}
	switch {
	case !sumPattern.MatchString(sum):
	case suffix == crlSuffix:
		return sum + crlInfoSuffix
	case suffix == crlInfoSuffix:
		return sum + crlSuffix
	}
	return ""
}

// fetchAgainHint is the next action for a list that is damaged: it is a copy.
const fetchAgainHint = "it is a copy, and fetched again by itself: stop the daemon, remove the file, start it; one that was carried here: spinecert trust crl FILE once more"

// crls looks at the lists of an environment.
func (v *verifier) crls(environment string) {
	dir := join(crlName, environment)
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
		half := otherHalf(base)
		if half == "" {
			v.odd(join(dir, base))
			continue
		}
		before := len(v.findings)
		if v.entry(join(dir, base), unix.S_IFREG, filePermissions) {
			v.crl(dir, base, half)
		}
		if len(v.findings) > before && !v.d.exists(join(dir, base)) {
			v.findings = v.findings[:before]
		}
	}
}

// crl wants both halves of a list to be there and to fit, and is called for each.
func (v *verifier) crl(dir, base, half string) {
	name := join(dir, base)
	if !v.d.exists(join(dir, half)) {
		if v.settled(name) {
			v.find(name, CodeMissing, "is alone: "+half+" is missing", "it goes when the daemon starts")
		}
		return
	}
	sum, ok := strings.CutSuffix(base, crlInfoSuffix)
	if !ok {
		return // looked at with its description
	}
	v.checked++
	i, err := v.d.crlInfo(dir, sum)
	if err != nil {
		v.damaged(name, err)
		return
	}
	digest, err := v.d.crlDigest(dir, sum)
	switch {
	case err != nil:
		v.damaged(join(dir, half), err)
	case digest != i.SHA256 && v.settled(join(dir, half)): // else it is being replaced
		v.find(join(dir, half), CodeDigest, "is not the list that is described beside it", "nothing is lost: the daemon judges the list itself, and asks for it anew")
	}
}

// settled reports whether nobody is at work on a file.
func (v *verifier) settled(name string) bool {
	st, err := v.d.lstat(name)
	return err == nil && (v.d.lock != nil || time.Unix(st.Ctim.Unix()).Before(v.old))
}

// damaged is broken for what can be had again.
func (v *verifier) damaged(name string, err error) {
	if !errors.Is(err, fs.ErrNotExist) { // else it went meanwhile
		v.find(name, CodeUnreadable, cause(err).Error(), fetchAgainHint)
	}
}
