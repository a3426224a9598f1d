package testprogram

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// Need returns the path of a program. Those of root are found also where the PATH leaves them out. The test ends as
// [Missing] says if there is none.
func Need(t testing.TB, program string) string {
	t.Helper()
	for _, dir := range []string{"", "/usr/sbin/", "/sbin/"} {
		if path, err := exec.LookPath(dir + program); err == nil {
			return path
		}
	}
	Missing(t, program)
	return ""
}

// Missing ends a test that needs what is not installed: it is skipped, and in CI it fails.
func Missing(t testing.TB, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is not installed, and CI must have it", what)
	}
	t.Skipf("%s is not installed", what)
}

// PostgreSQL returns the directory of the programs of the server. Debian keeps them off the PATH, one directory
// for each version.
func PostgreSQL(t testing.TB) string {
	t.Helper()
	if path, err := exec.LookPath("postgres"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil {
			return filepath.Dir(path)
		}
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/postgres")
	if len(found) == 0 {
		Missing(t, "postgres")
	}
	return filepath.Dir(found[len(found)-1])
}

// ApacheModules returns the directives with which Apache loads what a reverse proxy with TLS needs.
func ApacheModules(t testing.TB) string {
	t.Helper()
	for _, dir := range []string{"/usr/lib/apache2/modules", "/usr/lib64/httpd/modules", "/usr/libexec/apache2"} {
		if _, err := os.Stat(filepath.Join(dir, "mod_ssl.so")); err != nil {
			continue
		}
		var b strings.Builder
		for _, m := range []string{"mpm_event", "authz_core", "unixd", "ssl", "proxy", "proxy_http"} {
			path := filepath.Join(dir, "mod_"+m+".so")
			if _, err := os.Stat(path); err == nil { // or it is built in
				fmt.Fprintf(&b, "LoadModule %s_module %s\n", m, path)
			}
		}
		return b.String()
	}
	Missing(t, "mod_ssl of Apache")
	return ""
}
