package main

import (
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	cdx "github.com/CycloneDX/cyclonedx-go"
)

// maintainer is as in nfpm.yaml.
const maintainer = "The nbidentityd developers <maintainers@nbidentityd.invalid>"

const ourModule = "github.com/nbidentityd/nbidentityd"

// writeBOM writes the CycloneDX document of the release.
func (d *dist) writeBOM(all []program, modules []module) error {
	self := cdx.Component{
		BOMRef:     "pkg:golang/" + ourModule + "@" + d.version,
		Type:       cdx.ComponentTypeApplication,
		Name:       "nbidentityd",
		Version:    d.version,
		PackageURL: "pkg:golang/" + ourModule + "@" + d.version,
		Licenses:   &cdx.Licenses{{License: &cdx.License{ID: "Apache-2.0"}}},
	}
	var parts []cdx.Component
	for _, p := range all {
		data, err := os.ReadFile(p.path)
		if err != nil {
			return err
		}
		sum := sha256.Sum256(data)
		name := p.name + "-linux-" + p.arch
		parts = append(parts, cdx.Component{
			BOMRef: "file:" + name, Type: cdx.ComponentTypeFile, Name: name, Version: d.version,
			Hashes: &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(sum[:])}},
		})
	}
	self.Components = &parts

	bom := cdx.NewBOM()
	bom.Metadata = &cdx.Metadata{Timestamp: d.date.Format(time.RFC3339), Component: &self}
	var libraries []cdx.Component
	var refs []string
	for _, m := range modules {
		c, err := component(m)
		if err != nil {
			return err
		}
		libraries = append(libraries, c)
		refs = append(refs, c.BOMRef)
	}
	bom.Components = &libraries
	bom.Dependencies = &[]cdx.Dependency{{Ref: self.BOMRef, Dependencies: &refs}}

	f, err := os.Create(filepath.Join(d.out, "nbidentityd-"+d.version+".cdx.json"))
	if err != nil {
		return err
	}
	defer f.Close()
	if err := cdx.NewBOMEncoder(f, cdx.BOMFileFormatJSON).SetPretty(true).EncodeVersion(bom, cdx.SpecVersion1_6); err != nil {
		return fmt.Errorf("writing the SBOM: %w", err)
	}
	return f.Close()
}

func component(m module) (cdx.Component, error) {
	url := "pkg:golang/" + m.path + "@" + m.version
	c := cdx.Component{
		BOMRef: url, Type: cdx.ComponentTypeLibrary, Name: m.path, Version: m.version, PackageURL: url,
		Licenses: &cdx.Licenses{{Expression: strings.Join(m.spdx, " AND ")}},
	}
	if m.sum != "" {
		// The sum of the go command: SHA-256 of the list of its files' SHA-256.
		raw, err := base64.StdEncoding.DecodeString(strings.TrimPrefix(m.sum, "h1:"))
		if err != nil {
			return c, fmt.Errorf("sum %q of %s: %w", m.sum, m.path, err)
		}
		c.Hashes = &[]cdx.Hash{{Algorithm: cdx.HashAlgoSHA256, Value: hex.EncodeToString(raw)}}
	}
	return c, nil
}

// writeDocs writes what nfpm.yaml takes from tree/doc and tree/man.
func (d *dist) writeDocs(tree string, modules []module) error {
	notices, err := notices(modules)
	if err != nil {
		return err
	}
	changes := fmt.Sprintf("nbidentityd (%s-1) stable; urgency=medium\n\n  * Release %s. What changed is in the log of the repository.\n\n -- %s  %s\n",
		d.version, d.version, maintainer, d.date.Format(time.RFC1123Z))
	files := map[string][]byte{
		"doc/NOTICES":             notices,
		"doc/changelog.Debian.gz": squeeze([]byte(changes)),
	}
	pages, err := filepath.Glob("packaging/man/*.[1-8]")
	if err != nil {
		return err
	}
	for _, page := range pages {
		text, err := os.ReadFile(page)
		if err != nil {
			return err
		}
		files["man/"+filepath.Base(page)+".gz"] = squeeze(text)
	}
	for name, data := range files {
		path := filepath.Join(tree, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			return err
		}
		if err := os.WriteFile(path, data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

// notices are our terms, and those of what is linked.
func notices(modules []module) ([]byte, error) {
	ours, err := os.ReadFile("LICENSE")
	if err != nil {
		return nil, err
	}
	var b bytes.Buffer
	part := func(title, text string) {
		rule := strings.Repeat("=", 78)
		fmt.Fprintf(&b, "\n%s\n%s\n%s\n\n%s\n", rule, title, rule, strings.TrimSpace(text))
	}
	b.WriteString("nbidentityd is under the Apache License 2.0. Its programs contain:\n\n")
	for _, m := range modules {
		fmt.Fprintf(&b, "%s %s: %s\n", m.path, m.version, strings.Join(m.spdx, ", "))
	}
	part("nbidentityd", string(ours))
	for _, m := range modules {
		for _, t := range m.texts {
			part(fmt.Sprintf("%s %s, %s", m.path, m.version, t.file), t.text)
		}
	}
	return b.Bytes(), nil
}

// squeeze is gzip -9n.
func squeeze(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // fails for unknown levels only
	z.Write(data)                                         // to memory
	z.Close()
	return b.Bytes()
}
