// Command picture passes the lines of a benchmark on from stdin to stdout, and
// draws those that compare something as an SVG: a bar for each ratio, from a
// line of the form
//
//	bench: NAME 1.23 ms, 1.05x BASE (…)
//
// and every other figure as text below, with the machine and the date. The line
// "bench: failed" makes it fail.
package main

import (
	"bufio"
	"encoding/xml"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"time"
)

// bar is one ratio.
type bar struct {
	name, value, base string
	ratio             float64
}

const (
	width    = 960
	row      = 22
	label    = 330 // where bars begin
	one      = 190 // the length of a ratio of 1
	longest  = width - label - 210
	headRoom = 70
)

func main() {
	out := flag.String("o", "", "SVG `file` to write; none by default")
	flag.Parse()
	if err := run(os.Stdin, os.Stdout, *out); err != nil {
		fmt.Fprintln(os.Stderr, "picture:", err)
		os.Exit(1)
	}
}

func run(in io.Reader, tee io.Writer, path string) error {
	var bars []bar
	var notes []string
	lines := bufio.NewScanner(in)
	for lines.Scan() {
		if _, err := fmt.Fprintln(tee, lines.Text()); err != nil {
			return err
		}
		text, ours := strings.CutPrefix(lines.Text(), "bench: ")
		if !ours {
			continue
		}
		if text == "failed" { // a pipe has no other way to say so
			return errors.New("the benchmark failed")
		}
		if b, ok := parse(text); ok {
			bars = append(bars, b)
		} else {
			notes = append(notes, text)
		}
	}
	if err := lines.Err(); err != nil {
		return err
	}
	if path == "" {
		return nil
	}
	if len(bars) == 0 {
		return fmt.Errorf("%s: nothing to draw: no line compares anything", path)
	}
	return os.WriteFile(path, draw(bars, notes), 0o644)
}

// parse finds the first ratio of a line.
func parse(text string) (bar, bool) {
	m := regexp.MustCompile(`^(.+?):? ((?:p50 )?[0-9.]+ [a-zA-Z/]+), ([0-9.]+)x ([a-z][a-zA-Z'-]*)`).FindStringSubmatch(text)
	if m == nil {
		return bar{}, false
	}
	ratio, err := strconv.ParseFloat(m[3], 64)
	if err != nil {
		return bar{}, false
	}
	return bar{name: m[1], value: m[2], ratio: ratio, base: m[4]}, true
}

func draw(bars []bar, notes []string) []byte {
	var b strings.Builder
	notes = wrap(notes)
	height := headRoom + row*len(bars) + 40 + 16*len(notes) + 20
	fmt.Fprintf(&b, `<svg xmlns="http://www.w3.org/2000/svg" width="%d" height="%d" viewBox="0 0 %d %d" font-family="sans-serif" font-size="12">`+"\n", width, height, width, height)
	fmt.Fprintf(&b, `<rect width="%d" height="%d" fill="white"/>`+"\n", width, height)
	text(&b, 16, 28, `font-size="17" font-weight="bold"`, "What nbidentityd costs, against the least that does the same")
	text(&b, 16, 48, `fill="#555"`, machine()+", "+time.Now().UTC().Format(time.DateOnly)+"; make bench")
	for i, v := range bars {
		y := headRoom + row*i
		text(&b, 16, y+14, "", v.name)
		length := min(v.ratio*one, longest)
		fmt.Fprintf(&b, `<rect x="%d" y="%d" width="%.1f" height="%d" fill="#4878a8"/>`+"\n", label, y+3, length, row-8)
		text(&b, label+int(length)+6, y+14, "", fmt.Sprintf("%.2fx %s (%s)", v.ratio, v.base, v.value))
	}
	bottom := headRoom + row*len(bars)
	fmt.Fprintf(&b, `<line x1="%d" y1="%d" x2="%d" y2="%d" stroke="#b03030" stroke-dasharray="4 3"/>`+"\n", label+one, headRoom-6, label+one, bottom)
	for i, n := range notes {
		text(&b, 16, bottom+30+16*i, `font-size="11" fill="#333"`, n)
	}
	b.WriteString("</svg>\n")
	return []byte(b.String())
}

// wrap breaks lines that are wider than the picture, between words.
func wrap(lines []string) []string {
	const most = 165 // characters
	var all []string
	for _, line := range lines {
		for len(line) > most {
			cut := strings.LastIndexByte(line[:most], ' ')
			if cut <= 0 {
				break
			}
			all, line = append(all, line[:cut]), "    "+line[cut+1:]
		}
		all = append(all, line)
	}
	return all
}

func text(b *strings.Builder, x, y int, style, s string) {
	fmt.Fprintf(b, `<text x="%d" y="%d" %s>`, x, y, style)
	_ = xml.EscapeText(b, []byte(s)) // a Builder takes everything
	b.WriteString("</text>\n")
}

// machine is the processor and the kernel's architecture.
func machine() string {
	data, err := os.ReadFile("/proc/cpuinfo")
	if err == nil {
		for line := range strings.Lines(string(data)) {
			if key, value, _ := strings.Cut(line, ":"); strings.TrimSpace(key) == "model name" {
				return fmt.Sprintf("%d of %s", runtime.NumCPU(), strings.TrimSpace(value))
			}
		}
	}
	return fmt.Sprintf("%d processors, %s", runtime.NumCPU(), runtime.GOARCH)
}
