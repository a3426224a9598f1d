package consumers

import (
	"fmt"
	"os"
	"testing"

	"github.com/spinecert/spinecert/internal/testprogram"
)

func TestNginx(t *testing.T) {
	t.Parallel()
	nginx := testprogram.Need(t, "nginx")
	h := newHost(t, "nginx")
	h.export()
	in, out := h.freeAddress(), h.freeAddress()
	servers := h.setting("nginx", 0, "listen 443", "listen "+in, "127.0.0.1:8080", backend(t)) +
		h.setting("nginx", 1, "127.0.0.1:8081", out, "https://"+peerName, "https://127.0.0.1:"+h.spine())
	config := fmt.Sprintf("daemon off; pid %[1]s/nginx.pid; error_log stderr;\nevents {}\nhttp {\naccess_log off;\n", h.dir)
	if testprogram.Nobody(h.t) != nil {
		config = "user nobody nogroup;\n" + config
	}
	for _, d := range []string{"client_body", "proxy", "fastcgi", "uwsgi", "scgi"} {
		config += fmt.Sprintf("%s_temp_path %s;\n", d, h.path("tmp-"+d))
	}
	h.write("nginx.conf", []byte(config+servers+"}\n"), 0o600)
	h.launch(nil, nginx, "-e", "stderr", "-p", h.dir, "-c", h.path("nginx.conf"))
	h.judges(in, "backend here")
	h.reaches(out)
}

func TestHAProxy(t *testing.T) {
	t.Parallel()
	haproxy := testprogram.Need(t, "haproxy")
	h := newHost(t, "HAProxy")
	h.export()
	in, out := h.freeAddress(), h.freeAddress()
	config := h.setting("haproxy", 0, "bind :443", "bind "+in, "127.0.0.1:8080", backend(t), "127.0.0.1:8081", out, peerName+":443", "127.0.0.1:"+h.spine())
	h.write("haproxy.cfg", []byte("defaults\n mode http\n timeout connect 20s\n timeout client 30s\n timeout server 30s\n"+config), 0o600)
	h.launch(nil, haproxy, "-db", "-f", h.path("haproxy.cfg"))
	h.judges(in, "backend here")
	h.reaches(out)
}

func TestApache(t *testing.T) {
	t.Parallel()
	apache := testprogram.Need(t, "apache2")
	modules := testprogram.ApacheModules(t)
	h := newHost(t, "Apache")
	h.export()
	in, out := h.freeAddress(), h.freeAddress()
	config := fmt.Sprintf("ServerRoot %[1]s\nServerName localhost\nPidFile %[1]s/apache.pid\nDefaultRuntimeDir %[1]s\nMutex posixsem\nErrorLog %[1]s/error.log\nListen %[2]s\nListen %[3]s\n",
		h.dir, in, out)
	if testprogram.Nobody(h.t) != nil {
		config += "User nobody\nGroup nogroup\n"
	}
	config += h.setting("apache", 0, "*:443", in, "127.0.0.1:8080", backend(t)) + h.setting("apache", 1, "127.0.0.1:8081", out, "https://"+peerName, "https://localhost:"+h.spine())
	h.write("apache.conf", []byte(modules+config), 0o600)
	h.launch(nil, apache, "-DFOREGROUND", "-f", h.path("apache.conf"))
	t.Cleanup(func() {
		if t.Failed() {
			log, _ := os.ReadFile(h.path("error.log"))
			t.Logf("%s", log)
		}
	})
	h.judges(in, "backend here")
	h.reaches(out)
}
