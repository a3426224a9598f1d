package state

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"golang.org/x/sys/unix"
)

const (
	servicesName  = "services"
	serviceSuffix = ".json"
)

// ReadService returns the record of a service, as it was written; nil if there is none.
func (d *Directory) ReadService(name string) ([]byte, error) {
	if err := checkName("service", name); err != nil {
		return nil, err
	}
	file := join(servicesName, name+serviceSuffix)
	data, err := d.readFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, &failure{doing: "read record", path: d.abs(file), err: err, hint: deliverAgainHint}
	}
	return data, nil
}

// WriteService replaces the record of a service, JSON of at most 1 MiB. When it returns
// nil, that outlives a crash. On an error there is the old one or the new one, whole.
// Records of different services may be written at the same time.
func (d *Directory) WriteService(name string, data []byte) error {
	if err := checkName("service", name); err != nil {
		return err
	}
	file := join(servicesName, name+serviceSuffix)
	if len(data) > maxFile {
		return fail("write record", d.abs(file), fmt.Errorf("more than %d bytes", maxFile))
	}
	end, err := d.begin(file)
	if err != nil {
		return err
	}
	defer end()
	if err := d.makeBelow(servicesName); err != nil {
		return err
	}
	return fail("write record", d.abs(file), d.disk.Replace(d.abs(file), data, fileMode))
}

// deliverAgainHint is the next action for a record that is damaged: nothing is lost.
const deliverAgainHint = "remove it: the files of the service are then delivered anew, and what it serves is looked at"

// services looks at the records of services.
func (v *verifier) services() {
	names, err := v.d.names(servicesName)
	if err != nil {
		v.broken(servicesName, err)
	}
	for _, base := range names {
		name := join(servicesName, base)
		service, ok := strings.CutSuffix(base, serviceSuffix)
		if !ok || checkName("service", service) != nil {
			v.odd(name)
			continue
		}
		if v.entry(name, unix.S_IFREG, filePermissions) {
			v.checked++
			v.service(name)
		}
	}
}

func (v *verifier) service(name string) {
	data, err := v.d.readFile(name)
	switch {
	case errors.Is(err, fs.ErrNotExist): // it went meanwhile
	case err != nil:
		v.find(name, CodeUnreadable, cause(err).Error(), deliverAgainHint)
	case !json.Valid(data):
		v.find(name, CodeUnreadable, "is no JSON of a service", deliverAgainHint)
	}
}
