package main

import (
	"debug/buildinfo"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

const (
	spinecertName = "spinecert"
	// baselineName is the proxy that every ratio is taken against.
	baselineName = "nginx"
)

// proxy describes one proxy under measurement.
type proxy struct {
	name      string
	binary    string // a name to look up, or a path
	remedy    string // what to run when it is missing
	config    string // text/template over site
	arguments func(config string) []string
	version   func(binary string) string
	missing   func() string // what else it needs and lacks; nil: nothing
}

// proxies is the table of all proxies, in the order in which they take turns.
func proxies(daemon string) []proxy {
	return []proxy{
		{
			name: spinecertName, binary: daemon, remedy: "make build",
			config:    spinecertConfig,
			arguments: func(c string) []string { return []string{"--config", c} },
			version:   goBuildVersion,
		},
		{
			name: baselineName, binary: "nginx", remedy: "apt-get install nginx-light libnginx-mod-stream",
			config:    nginxConfig,
			arguments: func(c string) []string { return []string{"-p", filepath.Dir(c), "-c", c, "-e", "stderr"} },
			version:   firstLine("-v"),
			missing: func() string {
				if nginxStreamModule() == "" {
					return "stream module not installed"
				}
				return ""
			},
		},
		{
			name: "haproxy", binary: "haproxy", remedy: "apt-get install haproxy",
			config:    haproxyConfig,
			arguments: func(c string) []string { return []string{"-db", "-q", "-f", c} },
			version:   firstLine("-v"),
		},
		{
			name: "stunnel", binary: "stunnel", remedy: "apt-get install stunnel4",
			config:    stunnelConfig,
			arguments: func(c string) []string { return []string{c} },
			version:   firstLine("-version"),
		},
	}
}

func proxyNames() []string {
	var names []string
	for _, p := range proxies("") {
		names = append(names, p.name)
	}
	return names
}

func findProxy(ps []proxy, name string) (proxy, bool) {
	i := slices.IndexFunc(ps, func(p proxy) bool { return p.name == name })
	if i < 0 {
		return proxy{}, false
	}
	return ps[i], true
}

// selectProxies returns the wanted proxies that are installed, their binary
// resolved to a path, and one line for each that is not.
func selectProxies(daemon string, only []string) (found []proxy, missing []string) {
	for _, p := range proxies(daemon) {
		if len(only) > 0 && !slices.Contains(only, p.name) {
			continue
		}
		path, lack := p.find()
		if lack != "" {
			missing = append(missing, fmt.Sprintf("%s: %s (%s)", p.name, lack, p.remedy))
			continue
		}
		p.binary = path
		found = append(found, p)
	}
	return found, missing
}

// find returns the path of the binary, or what is lacking.
func (p proxy) find() (path, lack string) {
	path, ok := lookPath(p.binary)
	switch {
	case !ok && strings.Contains(p.binary, "/"):
		return "", "no program at " + p.binary
	case !ok:
		return "", "not installed"
	case p.missing != nil:
		return path, p.missing()
	}
	return path, ""
}

// lookPath also looks where Debian keeps daemons, which is not in the PATH of
// an ordinary user.
func lookPath(name string) (string, bool) {
	candidates := []string{name}
	if !strings.Contains(name, "/") {
		candidates = append(candidates, "/usr/sbin/"+name, "/usr/local/sbin/"+name)
	}
	for _, c := range candidates {
		if path, err := exec.LookPath(c); err == nil {
			if path, err = filepath.Abs(path); err == nil {
				return path, true
			}
		}
	}
	return "", false
}

// nginxStreamModule returns the path of the dynamic stream module, or "".
func nginxStreamModule() string {
	for _, dir := range []string{"/usr/lib/nginx/modules", "/usr/lib64/nginx/modules"} {
		path := filepath.Join(dir, "ngx_stream_module.so")
		if _, err := os.Stat(path); err == nil {
			return path
		}
	}
	return ""
}

// firstLine returns a function that runs the binary with arg and returns the
// first line that holds a version: nginx and stunnel say it on stderr, and
// stunnel says something else first.
func firstLine(arg string) func(string) string {
	return func(binary string) string {
		out, _ := exec.Command(binary, arg).CombinedOutput()
		for line := range strings.Lines(string(out)) {
			if strings.ContainsAny(line, "0123456789") {
				return strings.TrimSpace(strings.TrimPrefix(line, "nginx version: "))
			}
		}
		return "version unknown"
	}
}

// goBuildVersion reads what the Go linker wrote into the binary.
func goBuildVersion(binary string) string {
	info, err := buildinfo.ReadFile(binary)
	if err != nil {
		return "version unknown"
	}
	words := []string{"spinecertd", info.Main.Version, "built with", info.GoVersion}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" && len(s.Value) > 12 && !strings.Contains(info.Main.Version, s.Value[:12]) {
			words = append(words, "revision", s.Value[:12])
		}
	}
	return strings.Join(words, " ")
}
