package services

import (
	"bytes"
	"fmt"
	"time"

	"github.com/spinecert/spinecert/internal/testpki"
)

const (
	// rotations is how many there are in a campaign.
	rotations = 50
	// target is the directory of the service.
	target = "spine"
)

// program is one that reads files and is told to read them again.
type program struct {
	service string // its name in the configuration of the page
	// files are the names of the set and what is in each.
	files map[string]func(h *host) []byte
	// start starts it with the configuration of the page, on an address, with the files
	// of a directory: without waiting.
	start func(h *host, directory, address string) *process
	// reload is what its users do after they have changed the files; it may return before
	// that has had an effect.
	reload func(h *host, p *process, directory string)
	// services is the configuration of the daemon for it, begun by the word.
	services func(h *host, directory, address string) string
	// clients are those that make the load; nil for those of a web server.
	clients func(h *host, address string) []client
	// rest waits, after a reload that had its effect, until the program takes the next
	// one; nil for one that always does.
	rest func(h *host, directory string)
	// mayFail says which kinds of failure the program's own reload causes, by the words
	// that they begin with. A campaign fails for any other.
	mayFail []string
}

// What is in the files of a page.
var contents = map[string]func(h *host) []byte{
	"fullchain": func(h *host) []byte { return h.own.FullChainPEM() },
	"key":       func(h *host) []byte { return h.own.KeyPEM() },
	"combined":  func(h *host) []byte { return bytes.Join([][]byte{h.own.KeyPEM(), h.own.FullChainPEM()}, nil) },
	"trust-pem": func(h *host) []byte { return h.sub.BundlePEM() },
	"crl-pem": func(h *host) []byte {
		return append(testpki.EncodeCRL(h.sub.CRL(h.t, h.revoked...)), testpki.EncodeCRL(h.root.CRL(h.t))...)
	},
}

// campaign rotates under load: first by hand, files by rename and the program's own
// reload, which is the baseline, then with the daemon. It says what it counted, and
// fails if a request failed in a way that the baseline does not have.
func (p program) campaign(h *host) {
	h.t.Helper()
	base := p.baseline(h)
	ours := p.delivered(h)
	h.t.Logf("\n| %s | rotations | requests, kept connections | new connections | failed | sent over |\n%s\n%s", p.service,
		base.row("without us"), ours.row("with us"))
	for kind, n := range ours.Failed {
		if n > base.Failed[kind] && !begins(kind, p.mayFail) {
			h.t.Errorf("with us: %d requests failed, %s; without us: %d", n, kind, base.Failed[kind])
		}
	}
	for _, way := range []string{kept, fresh} {
		if ours.Requests[way] < rotations || base.Requests[way] < rotations {
			h.t.Errorf("there was no load: %+v, %+v", ours, base)
		}
	}
}

func (f figures) row(what string) string {
	failed := fmt.Sprint(f.failed())
	if f.failed() > 0 {
		failed += " (" + f.kinds() + ")"
	}
	return fmt.Sprintf("| %s | %d | %d | %d | %s | %d |", what, rotations, f.Requests[kept], f.Requests[fresh], failed, f.Again)
}

func begins(kind string, with []string) bool {
	for _, w := range with {
		if len(kind) >= len(w) && kind[:len(w)] == w {
			return true
		}
	}
	return false
}

func (p program) load(h *host, address string) *load {
	if p.clients != nil {
		return h.startLoad(p.clients(h, address)...)
	}
	return h.startLoad(h.webClients(address)...)
}

func (p program) pause(h *host, directory string) {
	h.t.Helper()
	if p.rest != nil {
		p.rest(h, h.path(directory))
	}
}

// put writes the files of a set by hand, each by rename.
func (p program) put(h *host, directory string) {
	h.t.Helper()
	for name, content := range p.files {
		h.write(directory+"/current/"+name, content(h), 0o600)
	}
}

// baseline is what the program's own reload costs.
func (p program) baseline(h *host) figures {
	h.t.Helper()
	const directory = "by-hand"
	address := h.freeAddress()
	p.put(h, directory)
	server := p.start(h, h.path(directory), address)
	h.listening(address)
	h.soon(address, ownName, h.own, 1)
	p.pause(h, directory)
	l := p.load(h, address)
	began := time.Now()
	for range rotations {
		h.rotate()
		p.put(h, directory)
		p.reload(h, server, h.path(directory))
		h.soon(address, ownName, h.own, 3)
		p.pause(h, directory)
	}
	h.t.Logf("%s: a rotation by hand took %s", p.service, time.Since(began)/rotations)
	sum := l.end()
	server.end()
	return sum
}

// delivered is what rotations with the daemon cost. The program is started after the first set
// was delivered: it does not start without files.
func (p program) delivered(h *host) figures {
	h.t.Helper()
	address, _ := p.serve(h)
	l := p.load(h, address)
	began := time.Now()
	for range rotations {
		h.rotate()
		h.settled(p.service, address)
		p.pause(h, target)
	}
	h.t.Logf("%s: a rotation with us took %s", p.service, time.Since(began)/rotations)
	return l.end()
}

// serve has the daemon deliver, then starts the program, and waits until it is in sync. The daemon
// is away while the program starts: a reload that meets it then could end it, or start another.
func (p program) serve(h *host) (address string, server *process) {
	h.t.Helper()
	address = h.freeAddress()
	h.mkdir(target)
	h.configure(p.services(h, h.path(target), address))
	h.startDaemon()
	h.until("the first set of "+p.service+" is there", func() bool { return h.service(p.service).State == "failed" && exists(h.path(target+"/current")) })
	h.stopDaemon()
	server = p.start(h, h.path(target), address)
	h.listening(address)
	h.startDaemon()
	h.settled(p.service, address)
	p.pause(h, target)
	return address, server
}
