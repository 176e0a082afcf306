package report

import (
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"html/template"
	"io"
	"strings"
	"time"
)

//go:embed page.html.tmpl
var pageText string

//go:embed page.js
var script string

//go:embed page.css
var style string

// WriteHTML writes one page with everything on it. title says what was asked for.
func (d *Document) WriteHTML(w io.Writer, title string) error {
	page, err := template.New("page").Funcs(template.FuncMap{
		"clean": Clean, "number": number,
		"clock": func(t time.Time) string { return t.Format(clock) },
		"unix":  func(at int64) string { return time.Unix(at, 0).UTC().Format(clock) },
		"join":  func(s []string) string { return Clean(strings.Join(s, ", ")) },
	}).Parse(pageText)
	if err != nil {
		return err
	}
	sum := sha256.Sum256([]byte(script))
	return page.Execute(w, struct {
		*Document
		Title, Policy string
		Script        template.JS
		Style         template.CSS
		Strips        []strip
		Axis          []tick
	}{
		Document: d, Title: Clean(title),
		Policy: "default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-" + base64.StdEncoding.EncodeToString(sum[:]) + "'",
		Script: template.JS(script), Style: template.CSS(style),
		Strips: d.strips(), Axis: d.axis(),
	})
}

// strip is a timeline, drawn on stripWidth columns.
type strip struct {
	Name  string
	Calls int
	Bars  []bar
}

type bar struct {
	X, Width, Y, Height float64
	Escape              bool
	Title               string
}

type tick struct {
	Percent int
	Label   string
}

const (
	stripWidth  = 1000.0
	stripHeight = 20.0
)

// span is the time that the timelines cover.
func (d *Document) span() (start time.Time, length time.Duration) {
	var end time.Time
	for _, t := range d.Timelines {
		for _, h := range t.Hours {
			if start.IsZero() || h.Start.Before(start) {
				start = h.Start
			}
			if last := h.Start.Add(time.Hour); last.After(end) {
				end = last
			}
		}
	}
	return start, end.Sub(start)
}

func (d *Document) strips() []strip {
	start, length := d.span()
	var strips []strip
	for _, t := range d.Timelines {
		most := 1
		for _, h := range t.Hours {
			most = max(most, h.Calls)
		}
		s := strip{Name: t.Name, Calls: t.Calls}
		for _, h := range t.Hours {
			height := 3 + (stripHeight-3)*float64(h.Calls)/float64(most)
			title := h.Start.Format("2006-01-02 15:04") + ": " + number(h.Calls) + " calls"
			if h.Escapes > 0 {
				title += ", " + number(h.Escapes) + " escapes"
			}
			s.Bars = append(s.Bars, bar{
				X: stripWidth * float64(h.Start.Sub(start)) / float64(length), Width: max(stripWidth*float64(time.Hour)/float64(length), 0.5),
				Y: stripHeight - height, Height: height, Escape: h.Escapes > 0, Title: title,
			})
		}
		strips = append(strips, s)
	}
	return strips
}

func (d *Document) axis() []tick {
	start, length := d.span()
	if length <= 0 {
		return nil
	}
	const ticks = 6
	var axis []tick
	for i := range ticks {
		at := start.Add(length * time.Duration(i) / ticks)
		axis = append(axis, tick{Percent: 100 * i / ticks, Label: at.Format("01-02 15:04")})
	}
	return axis
}
