package config

import (
	"cmp"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"

	"github.com/spinecert/spinecert/internal/order"
	"github.com/spinecert/spinecert/rotate"
)

// unitCredentials is where systemd has the credentials of the daemon's unit for as long as it runs. Root finds them there from outside.
const unitCredentials = "/run/credentials/spinecertd.service"

// A Credential is a file that systemd copies for the daemon when its unit starts, written as credential:NAME; see LoadCredential= in
// systemd.exec(5).
type Credential struct {
	Name string
	Path string   // where it is read
	Uses []string // what it is, in the order of the file, such as "the key of slot pcs"
}

// Credentials returns the credentials that the configuration names, sorted by name.
func (c *Config) Credentials() []Credential { return slices.Clone(c.credentials) }

// SourceLabel is a file as messages name it: credential:NAME for a credential, else its path.
func SourceLabel(path string) string {
	if name, ok := rotate.CredentialName(path); ok {
		return "credential:" + name
	}
	return path
}

// ownCredentials returns the directory of the credentials, systemd.exec(5), CREDENTIALS_DIRECTORY: that of this process, else that of the daemon's unit.
func ownCredentials() string {
	if dir := os.Getenv("CREDENTIALS_DIRECTORY"); filepath.IsAbs(dir) {
		return filepath.Clean(dir)
	}
	return unitCredentials
}

// credentialWords is what systemd takes as the name of a credential: a file name of printable ASCII without a colon. Blanks at its ends and backslashes, which a
// unit file takes for itself, are left out.
var credentialWords = regexp.MustCompile(`^[!-9;-\[\]-~]([ -9;-\[\]-~]{0,253}[!-9;-\[\]-~])?$`)

const credentialHint = "write credential:NAME, with the NAME of LoadCredential=NAME:/path in the unit: at most 255 printable ASCII characters, none of them '/', ':' or '\\'"

// credential returns the path of a credential.
func (r *reading) credential(s scalar, name string) string {
	if !credentialWords.MatchString(name) || strings.Contains(name, "/") || name == "." || name == ".." || bareKey(name) {
		r.fail(s.place, "must be the name of a credential", credentialHint)
		return ""
	}
	return filepath.Join(r.credentials, name)
}

// use is what a credential is for.
type use struct {
	file *path
	what string
}

// takes notes the credentials among the files of an owner, such as "slot pcs", and warns where a new one is not taken by itself.
func (r *reading) takes(p place, owner string, uses ...use) {
	var what []string
	for _, u := range uses {
		name := u.file.credential
		if name == "" {
			r.foreign(u.file)
			continue
		}
		if !slices.Contains(what, u.what) {
			what = append(what, u.what)
		}
		i := slices.IndexFunc(r.taken, func(c Credential) bool { return c.Name == name })
		if i < 0 {
			i, r.taken = len(r.taken), append(r.taken, Credential{Name: name, Path: u.file.value})
		}
		if is := "the " + u.what + " of " + owner; !slices.Contains(r.taken[i].Uses, is) {
			r.taken[i].Uses = append(r.taken[i].Uses, is)
		}
	}
	hint := notCopied + "write the path of a file"
	if strings.HasPrefix(owner, "slot ") {
		hint += ", or managed: {}"
	}
	switch len(what) {
	case 0:
	case 1:
		r.warn(p, owner+" reads its "+what[0]+" from a credential: a new one is taken at a restart of the unit only", hint)
	default:
		last := len(what) - 1
		r.warn(p, owner+" reads its "+strings.Join(what[:last], ", ")+" and "+what[last]+" from credentials: new ones are taken at a restart of the unit only", hint)
	}
}

const notCopied = "systemd copies a credential when the unit starts, and a reload copies nothing; to have a new one taken without a restart, "

// usesOf is one use for each file of a list.
func usesOf(files *list[path], what string) []use {
	uses := make([]use, len(files.items))
	for i := range files.items {
		uses[i] = use{&files.items[i], what}
	}
	return uses
}

// foreign warns of a credential that is written as a path: the directory is another one for each unit, and none of the files there changes by itself.
func (r *reading) foreign(f *path) {
	name, ok := rotate.CredentialName(f.value)
	if !ok {
		name, ok = filepath.Base(f.value), filepath.Dir(f.value) == r.credentials
	}
	if f.value == "" || !ok {
		return
	}
	r.warn(f.place, "lies among the credentials of a unit, which change at a restart of the unit only", "write credential:"+name)
}

// sortedCredentials returns what was noted.
func (r *reading) sortedCredentials() []Credential {
	order.Sort(r.taken, func(a, b Credential) int { return cmp.Compare(a.Name, b.Name) })
	return r.taken
}
