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

// writeDocs writes into tree/doc the terms of what is linked, and into tree/man
// the man pages.
func (d *dist) writeDocs(tree string, modules []module) error {
	var b bytes.Buffer
	b.WriteString("The programs contain the following, under these terms.\n\n")
	for _, m := range modules {
		fmt.Fprintf(&b, "%s %s: %s\n", m.path, m.version, strings.Join(m.spdx, ", "))
	}
	for _, m := range modules {
		for _, t := range m.texts {
			fmt.Fprintf(&b, "\n%s\n%s %s, %s\n%s\n\n%s\n", strings.Repeat("=", 78), m.path, m.version, t.file, strings.Repeat("=", 78), strings.TrimSpace(t.text))
		}
	}
	doc := filepath.Join(tree, "doc")
	if err := os.MkdirAll(doc, 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(filepath.Join(doc, "THIRD-PARTY-LICENSES"), b.Bytes(), 0o644); err != nil {
		return err
	}
	man := filepath.Join(tree, "man")
	if err := os.MkdirAll(man, 0o755); err != nil {
		return err
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
		if err := os.WriteFile(filepath.Join(man, filepath.Base(page)+".gz"), squeeze(text), 0o644); err != nil {
			return err
		}
	}
	return nil
}

// squeeze is gzip -9n.
func squeeze(data []byte) []byte {
	var b bytes.Buffer
	z, _ := gzip.NewWriterLevel(&b, gzip.BestCompression) // fails for unknown levels only
	z.Write(data)                                         // to memory
	z.Close()
	return b.Bytes()
}
