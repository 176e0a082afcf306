package main

import (
	"encoding/xml"
	"io"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const lines = `bench: memory-idle 9.0 MB resident, 9.0 MB proportional
bench: go-hello 1.84 ms, 1.00x go-hello (median 1.81 ms)
bench: face unix, c=1, new connections: p50 0.249 ms, 1.18x bare (quartiles 0.91 to 1.43)
bench: odd <name> & more 2.00 ms, 9.99x go-hello
something else
`

func TestParse(t *testing.T) {
	for text, want := range map[string]bar{
		"go-hello 1.84 ms, 1.00x go-hello (median 1.81 ms)":                {name: "go-hello", value: "1.84 ms", ratio: 1, base: "go-hello"},
		"face unix, c=1, new connections: p50 0.249 ms, 1.18x bare (more)": {name: "face unix, c=1, new connections", value: "p50 0.249 ms", ratio: 1.18, base: "bare"},
	} {
		if got, ok := parse(text); !ok || got != want {
			t.Errorf("%s: %v, %v", text, got, ok)
		}
	}
	if got, ok := parse("memory-idle 9.0 MB resident, 9.0 MB proportional"); ok {
		t.Errorf("no comparison, and yet %v", got)
	}
}

func TestRun(t *testing.T) {
	path := filepath.Join(t.TempDir(), "b.svg")
	var tee strings.Builder
	if err := run(strings.NewReader(lines), &tee, path); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(lines, tee.String()); diff != "" {
		t.Errorf("lines not passed on:\n%s", diff)
	}
	svg, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	rects := 0
	for d := xml.NewDecoder(strings.NewReader(string(svg))); ; {
		token, err := d.Token()
		if err == io.EOF {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" {
			rects++
		}
	}
	if rects != 4 { // the ground and three bars
		t.Errorf("%d rectangles, want 4", rects)
	}
	if err := run(strings.NewReader("bench: nothing compared\n"), io.Discard, path); err == nil {
		t.Error("an empty picture was drawn")
	}
	if err := run(strings.NewReader(lines+"bench: failed\n"), io.Discard, path); err == nil {
		t.Error("a failed benchmark was drawn")
	}
}
