package source

import (
	"bytes"
	stdgzip "compress/gzip"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"
	"github.com/klauspost/compress/zstd"
)

func gz(t testing.TB, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := stdgzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func zst(t testing.TB, text string) string {
	t.Helper()
	w, err := zstd.NewWriter(nil)
	if err != nil {
		t.Fatal(err)
	}
	return string(w.EncodeAll([]byte(text), nil))
}

func TestFind(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	trail := "AWSLogs/o-exampleorg/111122223333/CloudTrail/us-east-1/2026/07/01/111122223333_CloudTrail_us-east-1_20260701T2045Z_7xgocspSowgK0Gto.json.gz"
	files := map[string]string{
		trail: "a",
		"AWSLogs/111122223333/CloudTrail-Digest/us-east-1/2026/07/01/d.json.gz":  "b",
		"AWSLogs/111122223333/CloudTrail-Insight/us-east-1/2026/07/01/i.json.gz": "c",
		"more/plain.json": "d", "more/lines.JSONL": "e", "more/x.zst": "f", "more/notes.md": "g",
	}
	for name, content := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(content), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("/dev/zero", filepath.Join(dir, "more/endless.json")); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(dir, link); err != nil {
		t.Fatal(err)
	}
	notes := filepath.Join(dir, "more/notes.md")
	inputs, skipped, err := Find([]string{link, notes, "-"}, strings.NewReader("in"))
	if err != nil {
		t.Fatal(err)
	}
	type seen struct{ Name, Content string }
	var got []seen
	for _, input := range inputs {
		r, err := input.Open()
		if err != nil {
			t.Fatal(err)
		}
		content, err := io.ReadAll(r)
		if err != nil {
			t.Fatal(err)
		}
		if input.Name != "standard input" && input.Size != int64(len(content)) {
			t.Errorf("%s: size %d, content %q", input.Name, input.Size, content)
		}
		r.Close()
		got = append(got, seen{input.Name, string(content)})
	}
	want := []seen{
		{filepath.Join(link, trail), "a"}, {filepath.Join(link, "more/lines.JSONL"), "e"}, {filepath.Join(link, "more/plain.json"), "d"},
		{filepath.Join(link, "more/x.zst"), "f"}, {notes, "g"}, {"standard input", "in"},
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inputs (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(Skipped{DigestOrInsight: 2, Other: 2}, skipped); diff != "" {
		t.Errorf("skipped (-want +got):\n%s", diff)
	}
	if _, _, err := Find([]string{filepath.Join(dir, "absent")}, nil); err == nil || !strings.Contains(err.Error(), "absent") {
		t.Errorf("a missing path: %v", err)
	}
}

func TestPlain(t *testing.T) {
	t.Parallel()
	text := strings.Repeat(`{"Records":[]}`+"\n", 30000)
	tests := map[string]struct{ stored, want string }{
		"plain":             {text, text},
		"empty":             {"", ""},
		"one byte":          {"{", "{"},
		"gzip":              {gz(t, text), text},
		"gzip, many":        {gz(t, text) + gz(t, "") + gz(t, text), text + text},
		"zstd":              {zst(t, text), text},
		"zstd, two":         {zst(t, text) + zst(t, "x"), text + "x"},
		"gzip in gzip":      {gz(t, gz(t, "a")+gz(t, "b")), "ab"},
		"zstd in gzip":      {gz(t, zst(t, text)), text},
		"gzip of nothing":   {gz(t, ""), ""},
		"four times gzip":   {gz(t, gz(t, gz(t, gz(t, "deep")))), gz(t, "deep")},
		"gzip of one magic": {gz(t, "\x1f"), "\x1f"},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r, err := new(Decompressor).Plain(iotest.HalfReader(strings.NewReader(test.stored)))
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			got, err := io.ReadAll(r)
			if err != nil || string(got) != test.want {
				t.Errorf("%d bytes, %v; want %d bytes", len(got), err, len(test.want))
			}
		})
	}
}

func TestBrokenCompressionIsAnError(t *testing.T) {
	t.Parallel()
	text := strings.Repeat("0123456789", 100000)
	for name, stored := range map[string]string{
		"gzip cut":        gz(t, text)[:300],
		"gzip checksum":   strings.TrimSuffix(gz(t, text), gz(t, text)[len(gz(t, text))-8:]) + "\x00\x00\x00\x00\x00\x00\x00\x00",
		"gzip header":     "\x1f\x8bxxxxxxxxxxxxxxx",
		"zstd cut":        zst(t, text)[:20],
		"garbage behind":  gz(t, text) + "garbage",
		"zstd huge frame": "\x28\xb5\x2f\xfd\x00\xf8\x00\x00\x00",
	} {
		r, err := new(Decompressor).Plain(strings.NewReader(stored))
		if err == nil {
			_, err = io.Copy(io.Discard, r)
			r.Close()
		}
		if err == nil {
			t.Errorf("%s: no error", name)
		}
	}
	if _, err := new(Decompressor).Plain(iotest.ErrReader(errors.New("disk"))); err == nil {
		t.Error("a failing input: no error")
	}
}

func FuzzPlain(f *testing.F) {
	f.Add([]byte(gz(f, "x")))
	f.Add([]byte(zst(f, "x")))
	f.Add([]byte("{}"))
	f.Fuzz(func(t *testing.T, stored []byte) {
		r, err := new(Decompressor).Plain(bytes.NewReader(stored))
		if err != nil {
			return
		}
		defer r.Close()
		_, _ = io.CopyN(io.Discard, r, 1<<20) // must not panic; an error is an answer
	})
}
