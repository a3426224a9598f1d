package packaging

import (
	"bytes"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/CycloneDX/cyclonedx-go"
)

// testSBOM: it is a CycloneDX document, and has all that go version -m finds in the programs.
func testSBOM(t *testing.T, m made) {
	data, err := os.ReadFile(m.paths[".json"])
	if err != nil {
		t.Fatal(err)
	}
	var bom cyclonedx.BOM
	if err := cyclonedx.NewBOMDecoder(bytes.NewReader(data), cyclonedx.BOMFileFormatJSON).Decode(&bom); err != nil {
		t.Fatal(err)
	}
	if bom.SerialNumber != "" || bom.Metadata.Timestamp != "2026-11-01T12:00:00Z" {
		t.Errorf("serial number %q and time %q are not those of every build", bom.SerialNumber, bom.Metadata.Timestamp)
	}
	listed := map[string]string{}
	for _, c := range *bom.Components {
		if listed[c.BOMRef] != "" {
			t.Errorf("%s is there twice", c.BOMRef)
		}
		listed[c.BOMRef] = c.Name
	}
	uses := map[string][]string{}
	for _, d := range *bom.Dependencies {
		uses[d.Ref] = *d.Dependencies
		for _, ref := range *d.Dependencies {
			if listed[ref] == "" {
				t.Errorf("%s needs %s, which is not listed", d.Ref, ref)
			}
		}
	}
	for _, program := range []string{"spinecert", "spinecertd"} {
		found := 1 // the standard library
		for line := range strings.Lines(output(t, "go", "version", "-m", filepath.Join(m.programs, program))) {
			f := strings.Fields(line)
			if len(f) < 3 || f[0] != "dep" {
				continue
			}
			found++
			ref := "pkg:golang/" + f[1] + "@" + f[2]
			if listed[ref] != f[1] || !strings.Contains(strings.Join(uses["program:"+program], "\n")+"\n", ref+"\n") {
				t.Errorf("%s has %s %s, which is not listed", program, f[1], f[2])
			}
		}
		if got := len(uses["program:"+program]); got != found {
			t.Errorf("%s has %d modules, and %d are listed", program, found, got)
		}
		if digest := sum(t, filepath.Join(m.programs, program)); !bytes.Contains(data, []byte(digest)) {
			t.Errorf("the digest of %s is not listed", program)
		}
	}
}
