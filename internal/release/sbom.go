package release

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"
	"time"

	"github.com/CycloneDX/cyclonedx-go"
)

// SBOM writes the list of what is linked into the programs, as CycloneDX, and returns
// its path, below out. It is read from the programs themselves. It has no serial
// number, which would have to be random.
func (b *Build) SBOM(out string) (string, error) {
	bom, err := b.bom()
	if err != nil {
		return "", err
	}
	var text bytes.Buffer
	encoder := cyclonedx.NewBOMEncoder(&text, cyclonedx.BOMFileFormatJSON).SetPretty(true).SetEscapeHTML(false)
	if err := encoder.Encode(bom); err != nil {
		return "", err
	}
	path := filepath.Join(out, "spinecert_"+b.version+"_linux_"+b.Arch+".cdx.json")
	return path, write(path, text.Bytes())
}

func (b *Build) bom() (*cyclonedx.BOM, error) {
	bom := cyclonedx.NewBOM()
	product := cyclonedx.Component{BOMRef: "spinecert", Type: cyclonedx.ComponentTypeApplication, Name: "spinecert", Version: b.version, Licenses: apache()}
	bom.Metadata = &cyclonedx.Metadata{Timestamp: b.At.UTC().Format(time.RFC3339), Component: &product}
	linked, err := b.linked()
	if err != nil {
		return nil, err
	}
	var components []cyclonedx.Component
	var standard string
	contains := []string{}
	depends := []cyclonedx.Dependency{}
	for _, name := range programs {
		info, deps, err := modules(b.Program(name))
		if err != nil {
			return nil, err
		}
		component, err := b.program(name, info)
		if err != nil {
			return nil, err
		}
		standard = stdlib(info)
		on := []string{standard}
		for _, m := range deps {
			on = append(on, purl(m))
		}
		components = append(components, component)
		contains = append(contains, component.BOMRef)
		depends = append(depends, cyclonedx.Dependency{Ref: component.BOMRef, Dependencies: &on})
	}
	components = append(components, cyclonedx.Component{BOMRef: standard, Type: cyclonedx.ComponentTypeLibrary, Name: "stdlib", Version: standard[strings.LastIndexByte(standard, '@')+1:], PackageURL: standard})
	for _, m := range linked {
		components = append(components, cyclonedx.Component{
			BOMRef: purl(m), Type: cyclonedx.ComponentTypeLibrary, Name: m.Path, Version: m.Version, PackageURL: purl(m),
			Properties: &[]cyclonedx.Property{{Name: "go:sum", Value: m.Sum}},
		})
	}
	bom.Components = &components
	depends = slices.Insert(depends, 0, cyclonedx.Dependency{Ref: product.BOMRef, Dependencies: &contains})
	bom.Dependencies = &depends
	return bom, nil
}

// program is a program as a component, with its digest.
func (b *Build) program(name string, info *buildinfo.BuildInfo) (cyclonedx.Component, error) {
	data, err := os.ReadFile(b.Program(name))
	if err != nil {
		return cyclonedx.Component{}, err
	}
	sum := sha256.Sum256(data)
	return cyclonedx.Component{
		BOMRef: "program:" + name, Type: cyclonedx.ComponentTypeApplication, Name: name, Version: b.version, Licenses: apache(),
		Hashes:     &[]cyclonedx.Hash{{Algorithm: cyclonedx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		Properties: &[]cyclonedx.Property{{Name: "go:version", Value: info.GoVersion}, {Name: "go:package", Value: info.Path}},
	}, nil
}

func apache() *cyclonedx.Licenses {
	return &cyclonedx.Licenses{{License: &cyclonedx.License{ID: "Apache-2.0"}}}
}

// stdlib is the address of the standard library.
func stdlib(info *buildinfo.BuildInfo) string {
	version, _, _ := strings.Cut(strings.TrimPrefix(info.GoVersion, "go"), " ") // after it: experiments
	return "pkg:golang/stdlib@" + version
}

// purl is the address of a module.
func purl(m *debug.Module) string {
	return "pkg:golang/" + m.Path + "@" + strings.ReplaceAll(m.Version, "+", "%2B")
}
