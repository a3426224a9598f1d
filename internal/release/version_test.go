package release

import (
	"os/exec"
	"testing"
	"time"

	"github.com/spinecert/spinecert/internal/testprogram"
)

func TestPackageVersion(t *testing.T) {
	at := time.Date(2026, 11, 23, 4, 12, 33, 0, time.UTC)
	for describe, want := range map[string]string{
		"v1.2.0":                      "1.2.0",
		"1.2.0":                       "1.2.0",
		"v1.2.0-dirty":                "1.2.0+dirty",
		"v1.2.0-rc.1":                 "1.2.0~rc.1",
		"v1.2.0-rc.1-5-gabc1234":      "1.2.0~rc.1+5.gabc1234",
		"v1.2.0-5-gabc1234":           "1.2.0+5.gabc1234",
		"v1.2.0-5-gabc1234-dirty":     "1.2.0+5.gabc1234.dirty",
		"bb88997":                     "0.0.0+20261123041233.gbb88997",
		"bb88997-dirty":               "0.0.0+20261123041233.gbb88997.dirty",
		"":                            "",
		"devel":                       "",
		"v1.2":                        "",
		"v1.2.0\nx":                   "",
		"v1.2.0;rm":                   "",
		"v1.2.0-5-gabc1234-dirty-foo": "",
	} {
		got, err := PackageVersion(describe, at)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("PackageVersion(%q) = %q, %v, want %q", describe, got, err, want)
		}
	}
}

// TestOrder: dpkg sorts the versions as people do.
func TestOrder(t *testing.T) {
	testprogram.Need(t, "dpkg")
	order := []string{"bb88997", "v1.2.0-rc.1", "v1.2.0-rc.1-5-gabc1234", "v1.2.0-rc.2", "v1.2.0", "v1.2.0-5-gabc1234", "v1.2.0-12-g0001234", "v1.2.1"}
	for i := range order[1:] {
		older, errOlder := PackageVersion(order[i], time.Unix(0, 0))
		newer, errNewer := PackageVersion(order[i+1], time.Unix(0, 0))
		if errOlder != nil || errNewer != nil {
			t.Fatal(errOlder, errNewer)
		}
		if err := exec.CommandContext(t.Context(), "dpkg", "--compare-versions", older+"-1", "lt", newer+"-1").Run(); err != nil {
			t.Errorf("%s is not before %s: %v", older, newer, err)
		}
	}
}
