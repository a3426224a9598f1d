package config

import (
	"io/fs"
	"regexp"
	"slices"
	"strconv"
	"strings"

	"github.com/spinecert/spinecert/internal/format"
)

const (
	deliverHint = "write deliver: {directory: /etc/nginx/spine, files: [{format: fullchain, name: fullchain.pem}, {format: key, name: key.pem}]}"
	fileHint    = "write {format: fullchain, name: fullchain.pem}"
)

// serviceFiles returns the files of a set, and judges its directory as far as it stands alone.
func (r *reading) serviceFiles(raw *rawDeliver) []ServiceFile {
	if !raw.Written {
		r.fail(raw.Place, "nothing is delivered", deliverHint)
		return nil
	}
	if raw.Directory.text == "" {
		r.fail(raw.Directory.place, "no directory is named", "write directory: /etc/nginx/spine, a directory of this service alone; the stable paths are DIRECTORY/current/NAME")
	}
	if len(raw.Files.items) == 0 {
		r.fail(raw.Files.place, "no files are named", "write files: ["+strings.TrimPrefix(fileHint, "write ")+"]")
	}
	files := make([]ServiceFile, len(raw.Files.items))
	names := map[string]bool{}
	for i := range raw.Files.items {
		file := &raw.Files.items[i]
		files[i] = r.serviceFile(file)
		if names[files[i].Name] {
			r.fail(file.Name.place, "the name is given twice", "every file of a set needs a name of its own")
		}
		names[files[i].Name] = true
	}
	for i := range files {
		r.beside(raw.Files.items[i].Format.place, files[i].Format, files)
	}
	return files
}

// beside reports the files that one names and nobody delivers.
func (r *reading) beside(p place, name string, files []ServiceFile) {
	kind, _ := format.Find(name)
	for _, other := range kind.Beside {
		if !slices.ContainsFunc(files, func(f ServiceFile) bool { return f.Format == other }) {
			r.fail(p, name+" names a file of format "+other+", and there is none", "deliver files of the formats "+strings.Join(kind.Beside, ", ")+" as well")
		}
	}
}

// keyAlone reports a private key without any file that shows which certificate it belongs to: no handshake could tell
// whether the service has read the two together.
func (r *reading) keyAlone(raw *rawDeliver) {
	var key *rawServiceFile
	for i := range raw.Files.items {
		file := &raw.Files.items[i]
		switch file.Format.text {
		case "key":
			key = file
		case "chain", "trust-pem", "trust-pkcs12", "crl-pem":
		default:
			return // the leaf is in it, or must be beside it, or it is reported already
		}
	}
	if key != nil {
		r.fail(key.Format.place, "a private key is delivered without its certificate, which the service would have from elsewhere", "deliver fullchain or cert as well, or combined in place of the key")
	}
}

// fileWords is what a file of a set may be called.
var fileWords = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9._-]{0,99}$`)

func (r *reading) serviceFile(raw *rawServiceFile) ServiceFile {
	f := ServiceFile{
		Format:       raw.Format.text,
		Name:         raw.Name.text,
		Owner:        raw.Owner.text,
		Group:        r.group(raw.Group),
		PasswordFile: raw.PasswordFile.value,
	}
	if f.Format == "" {
		r.fail(raw.Format.place, "no format is named", fileHint)
	}
	switch {
	case f.Name == "":
		r.fail(raw.Name.place, "no name is given", fileHint)
	case f.Name == "current":
		r.fail(raw.Name.place, `must not be "current"`, "this is the name of the link to the set that is in force")
	case strings.Contains(f.Name, "/"):
		r.fail(raw.Name.place, "must be a name without a directory"+raw.Name.not(f.Name), "a set has no directories: the directory of the service is deliver.directory")
	case !fileWords.MatchString(f.Name):
		r.fail(raw.Name.place, "must be the name of a file"+raw.Name.not(f.Name), "a name has 1 to 100 letters, digits, '.', '_' and '-', and begins with a letter or digit")
	}
	if f.Owner != "" && (!userWords.MatchString(f.Owner) || !validID(f.Owner)) {
		r.fail(raw.Owner.place, "must be the name or the uid of a user"+raw.Owner.not(f.Owner), "")
	}
	kind, _ := format.Find(f.Format) // the zero value for none, which is reported
	f.Mode = r.fileMode(raw, kind.Private)
	switch {
	case kind.Password && raw.PasswordFile.text == "":
		r.fail(raw.PasswordFile.place, "a file of format "+f.Format+" needs a password", "write password_file: FILE, which holds it in its first line")
	case !kind.Password && f.Format != "" && raw.PasswordFile.text != "":
		r.fail(raw.PasswordFile.place, "is only for pkcs12, jks and trust-pkcs12", "remove it: a "+f.Format+" file has no password")
	}
	return f
}

// fileMode returns the permissions of a file.
func (r *reading) fileMode(raw *rawServiceFile, private bool) fs.FileMode {
	fallback := fs.FileMode(0o644)
	switch {
	case private && raw.Group.text != "":
		fallback = 0o640
	case private:
		fallback = 0o600
	}
	t := raw.Mode
	if !t.set || t.text == "" {
		return fallback
	}
	hint := `write "0` + strconv.FormatUint(uint64(fallback), 8) + `"`
	if !modeDigits.MatchString(t.text) {
		r.fail(t.place, "must be octal permissions"+t.not(t.text), hint)
		return fallback
	}
	bits, _ := strconv.ParseUint(t.text, 8, 32)
	switch mode := fs.FileMode(bits); {
	case mode&0o400 == 0:
		r.fail(t.place, "must let the owner read"+t.not(t.text), hint)
	case private && mode&0o007 != 0:
		r.fail(t.place, "every local user could read or change a private key"+t.not(t.text), hint+", and name the group of the service: group: NAME")
	case private && mode&0o020 != 0:
		r.fail(t.place, "the group could change a private key"+t.not(t.text), `write "0640": the service needs to read it, no more`)
	case mode&0o002 != 0:
		r.fail(t.place, "every local user could change the file"+t.not(t.text), `write "0644"`)
	default:
		return mode
	}
	return fallback
}

// forHAProxy judges the files of a service that is told through HAProxy's runtime socket, which takes PEM alone.
func (r *reading) forHAProxy(raw *rawDeliver) {
	var fullchain, key *rawServiceFile
	for i := range raw.Files.items {
		file := &raw.Files.items[i]
		switch file.Format.text {
		case "", "combined", "trust-pem", "crl-pem":
		case "fullchain":
			fullchain = file
		case "key":
			key = file
		default:
			r.fail(file.Format.place, "HAProxy's runtime socket takes no "+file.Format.text, "deliver combined, or fullchain and key, and trust-pem and crl-pem")
		}
	}
	const hint = "HAProxy needs fullchain and key, which it finds by their names (site.pem and site.pem.key), or combined, which is both in one file"
	switch {
	case fullchain != nil && key == nil:
		r.fail(fullchain.Format.place, "a fullchain without a key is nothing that HAProxy could serve", hint)
	case key != nil && fullchain == nil:
		r.fail(key.Format.place, "a key without a fullchain is nothing that HAProxy could serve", hint)
	}
}
