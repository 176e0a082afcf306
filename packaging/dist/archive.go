package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// tarball writes the tree of a deb under nbidentityd-VERSION/ into a tar.gz, but
// for what only dpkg's tools read.
func (d *dist) tarball(deb, target string) error {
	data, err := os.ReadFile(deb)
	if err != nil {
		return err
	}
	member, err := arMember(data, "data.tar.gz")
	if err != nil {
		return fmt.Errorf("reading %s: %w", deb, err)
	}
	z, err := gzip.NewReader(bytes.NewReader(member))
	if err != nil {
		return fmt.Errorf("reading %s: %w", deb, err)
	}
	var b bytes.Buffer
	out := tar.NewWriter(&b)
	for in := tar.NewReader(z); ; {
		h, err := in.Next()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return fmt.Errorf("reading %s: %w", deb, err)
		}
		name := strings.TrimPrefix(h.Name, ".")
		if strings.HasPrefix(name, "/usr/share/lintian/") || strings.HasSuffix(name, "/changelog.Debian.gz") {
			continue
		}
		plain := tar.Header{
			Typeflag: h.Typeflag, Name: "nbidentityd-" + d.version + name, Linkname: h.Linkname,
			Mode: h.Mode, Size: h.Size, ModTime: d.date, Uname: "root", Gname: "root", Format: tar.FormatUSTAR,
		}
		if err := out.WriteHeader(&plain); err != nil {
			return err
		}
		if _, err := io.Copy(out, in); err != nil {
			return err
		}
	}
	if err := out.Close(); err != nil {
		return err
	}
	return os.WriteFile(target, squeeze(b.Bytes()), 0o644)
}

// arMember returns a file of an ar archive: an 8-byte magic, then for each file a
// header of 60 characters, with the name in the first 16 and the size in ten from
// the 48th, and the data, padded to an even length.
func arMember(data []byte, name string) ([]byte, error) {
	const magic, header = "!<arch>\n", 60
	rest, ok := bytes.CutPrefix(data, []byte(magic))
	if !ok {
		return nil, errors.New("not an ar archive")
	}
	for len(rest) >= header {
		size, err := strconv.Atoi(strings.TrimSpace(string(rest[48:58])))
		if err != nil || size < 0 || size > len(rest)-header {
			return nil, errors.New("damaged ar archive")
		}
		if strings.TrimRight(string(rest[:16]), " /") == name {
			return rest[header : header+size], nil
		}
		rest = rest[min(len(rest), header+size+size%2):]
	}
	return nil, fmt.Errorf("no %s in it", name)
}

// writeSums writes SHA256SUMS, as sha256sum -c reads it.
func writeSums(dir string) error {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return err
	}
	var b bytes.Buffer
	for _, e := range entries {
		data, err := os.ReadFile(filepath.Join(dir, e.Name()))
		if err != nil {
			return err
		}
		fmt.Fprintf(&b, "%x  %s\n", sha256.Sum256(data), e.Name())
	}
	return os.WriteFile(filepath.Join(dir, "SHA256SUMS"), b.Bytes(), 0o644)
}
