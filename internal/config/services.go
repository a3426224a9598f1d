package config

import (
	"path/filepath"
	"slices"
	"strings"
)

// services reads the services, and judges what concerns several of them.
func (r *reading) services(raw *rawConfig, c *Config) {
	for i := range raw.Services.rows {
		row := &raw.Services.rows[i]
		s := r.service(row.name, &row.value, raw)
		r.warnNoLists(&row.value.Deliver, r.environmentOf(s.Slot, c))
		c.Services = append(c.Services, s)
	}
	c.services = indexOf(c.Services, func(s *Service) string { return s.Name })
	r.separateDirectories(raw, c)
	r.foreignProbes(raw, c)
	r.cycles(raw, c)
}

func (r *reading) service(name string, raw *rawService, all *rawConfig) Service {
	s := Service{
		Name:      name,
		Slot:      raw.Slot.text,
		Directory: raw.Deliver.Directory.value,
		Files:     r.serviceFiles(&raw.Deliver),
		Validate:  r.validate(&raw.Validate),
		Reload:    r.reload(&raw.Reload),
		KeepBad:   raw.OnFailure.text == "keep",
	}
	passwords := make([]use, len(raw.Deliver.Files.items))
	for i := range raw.Deliver.Files.items {
		passwords[i] = use{&raw.Deliver.Files.items[i].PasswordFile, "password"}
	}
	r.takes(raw.Deliver.Place, "service "+name, passwords...)
	r.known(raw.Slot, &all.Slots, "slot")
	r.probes(name, raw, &s)
	if s.Reload.Kind != ReloadHAProxy {
		r.keyAlone(&raw.Deliver)
	}
	if s.Reload.Kind == ReloadHAProxy {
		r.forHAProxy(&raw.Deliver)
		if s.Reload.Otherwise() == "" && slices.ContainsFunc(s.Files, func(f ServiceFile) bool { return f.Format == "trust-pem" || f.Format == "crl-pem" }) {
			r.warn(raw.Reload.value.HAProxy.place, "HAProxy 2.6 takes no certificate over its socket once CAs or CRLs went through it: the next certificate is held", "write unit: haproxy.service beside it: it is reloaded where the socket is not enough")
		}
	}
	if s.KeepBad {
		r.warn(raw.OnFailure.place, "on_failure is keep: what "+name+" does not serve, or does not take, stays in place", "set it to rollback, which goes back to the last set that was proved")
	}
	for _, other := range raw.After.items {
		switch {
		case other.text == name && name != "":
			r.fail(other.place, "the service waits for itself", "remove it")
			continue
		case slices.Contains(s.After, other.text):
			r.fail(other.place, "the service is listed twice", "remove one of the two")
			continue
		}
		r.known(other, &all.Services, "service")
		s.After = append(s.After, other.text)
	}
	return s
}

// warnNoLists warns of files that can never be made.
func (r *reading) warnNoLists(raw *rawDeliver, e Environment) {
	for _, file := range raw.Files.items {
		if file.Format.text == "crl-pem" && e.Name != "" && e.CRL.none() {
			r.warn(file.Format.place, "there are no CRLs to deliver, as crl.files and crl.hosts of environment "+e.Name+" are both empty", "name the hosts that CRLs are fetched from, or the CRLs")
		}
	}
}

// separateDirectories reports directories that are nobody's alone: what is delivered there would be pruned by another.
func (r *reading) separateDirectories(raw *rawConfig, c *Config) {
	owner, inner := map[string]string{}, map[string]string{} // by directory, and by every directory above one
	for i, s := range c.Services {
		at := raw.Services.rows[i].value.Deliver.Directory.place
		const hint = "every service needs a directory of its own"
		switch above := owner[s.Directory]; {
		case s.Directory == "": // reported already, or refused as no path
			continue
		case s.Directory == "/":
			r.fail(at, "must not be the root directory", "make a directory for the service, such as /etc/"+s.Name+"/spine")
			continue
		case Within(s.Directory, c.State.Directory):
			r.fail(at, "is the state directory, or lies in it", "make a directory beside the configuration of the service, such as /etc/"+s.Name+"/spine")
		case Within(c.State.Directory, s.Directory):
			r.fail(at, "the state directory lies in it", hint)
		case above != "":
			r.fail(at, "the directory is that of service "+above, hint)
		case inner[s.Directory] != "":
			r.fail(at, "the directory of service "+inner[s.Directory]+" lies in it", hint)
		default:
			r.meantDirectory(at, &s, c)
		}
		for up := filepath.Dir(s.Directory); up != "/" && up != "."; up = filepath.Dir(up) {
			if owner[up] != "" {
				r.fail(at, "lies in the directory of service "+owner[up], hint)
			}
			inner[up] = s.Name
		}
		owner[s.Directory] = s.Name
	}
}

// Within reports whether a path is a directory or lies below it. Both are clean.
func Within(path, directory string) bool {
	return path == directory || strings.HasPrefix(path, strings.TrimSuffix(directory, "/")+"/")
}

// cycles reports services that wait for each other, at the word that closes the circle.
func (r *reading) cycles(raw *rawConfig, c *Config) {
	at := make(map[string]int, len(c.Services))
	for i, s := range c.Services {
		at[s.Name] = i
	}
	const now, done = 1, 2
	state := make([]int, len(c.Services))
	var way []string
	var follow func(i int)
	follow = func(i int) {
		way, state[i] = append(way, c.Services[i].Name), now
		for _, word := range raw.Services.rows[i].value.After.items {
			next, ok := at[word.text]
			switch {
			case !ok || next == i:
			case state[next] == now:
				r.fail(word.place, "the services wait for each other: "+circle(way[slices.Index(way, word.text):]), "remove one of the words, so that one of them comes first")
			case state[next] != done:
				follow(next)
			}
		}
		way, state[i] = way[:len(way)-1], done
	}
	for i := range c.Services {
		if state[i] != done {
			follow(i)
		}
	}
}

// circle writes a way that ends where it began; of a long one its beginning and its end.
func circle(way []string) string {
	way = append(slices.Clone(way), way[0])
	if len(way) > 12 {
		way = slices.Concat(way[:6], []string{"..."}, way[len(way)-6:])
	}
	return strings.Join(way, " -> ")
}
