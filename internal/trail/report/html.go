package report

import (
	"bufio"
	"crypto/sha256"
	_ "embed"
	"encoding/base64"
	"fmt"
	"html"
	"io"
	"maps"
	"slices"
	"strings"
	"time"
)

//go:embed page.js
var script string

//go:embed page.css
var style string

// page writes HTML. What comes from records goes through text, whose escaping
// serves for elements and for quoted attributes alike; there are no others.
// html/template would do the same, but its reflection keeps every method of
// every linked type in the program: 18 MB, most of them the AWS SDK's.
type page struct{ w *bufio.Writer } // which keeps the first error

func (p page) tag(format string, args ...any) { fmt.Fprintf(p.w, format, args...) }
func (p page) text(s string)                  { p.w.WriteString(html.EscapeString(Clean(s))) }

// element writes text within a tag; open is markup of ours.
func (p page) element(open, s, close string) {
	p.w.WriteString(open)
	p.text(s)
	p.w.WriteString(close)
}

// column is one of a table; a width of "" is what is left.
type column struct{ title, width, class string }

// table writes a heading and a table; row writes the cells of each line.
func (p page) table(id string, columns []column, rows int, row func(i int)) {
	p.tag("<table%s><colgroup>", id)
	for _, c := range columns {
		if c.width == "" {
			p.tag("<col>")
		} else {
			p.tag(`<col style="width:%s">`, c.width)
		}
	}
	p.tag("</colgroup>\n<thead><tr>")
	for _, c := range columns {
		p.tag("<th%s>%s</th>", class(c.class), c.title)
	}
	p.tag("</tr></thead><tbody>\n")
	for i := range rows {
		p.tag("<tr>")
		row(i)
		p.tag("</tr>\n")
	}
	p.tag("</tbody></table>\n")
}

func class(name string) string {
	if name == "" {
		return ""
	}
	return ` class="` + name + `"`
}

func (p page) cell(name, s string) { p.element("<td"+class(name)+">", s, "</td>") }

// when is name if it holds, else no class.
func when(holds bool, name string) string {
	if holds {
		return name
	}
	return ""
}

// WriteHTML writes one page with everything on it. title says what was asked for.
func (d *Document) WriteHTML(w io.Writer, title string) error {
	p := page{bufio.NewWriter(w)}
	sum := sha256.Sum256([]byte(script))
	p.tag("<!doctype html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n")
	p.tag("<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-%s'\">\n", base64.StdEncoding.EncodeToString(sum[:]))
	p.tag("<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n<meta name=\"referrer\" content=\"no-referrer\">\n")
	p.element("<title>", title, "</title>\n")
	p.tag("<style>%s</style>\n</head>\n<body>\n", style)
	p.element("<h1>", title, "</h1>\n")
	d.htmlSummary(p)
	d.htmlConflicts(p)
	d.htmlEscapes(p)
	d.htmlTimeline(p)
	d.htmlActions(p)
	d.htmlCalls(p)
	p.tag("</body>\n</html>\n")
	return p.w.Flush()
}

func (d *Document) htmlSummary(p page) {
	s := d.Summary
	p.tag(`<p class="dim">%s records in %s inputs`, number(s.Read.Records), number(s.Read.Inputs))
	if s.Read.Records > 0 {
		unix := func(at int64) string { return time.Unix(at, 0).UTC().Format(clock) }
		p.tag(", %s to %s UTC", unix(s.Read.First), unix(s.Read.Last))
	}
	p.tag(";\nskipped %s duplicates, %s copies of other accounts, %s broken places, %s objects that are no records, %s unreadable inputs, %s digest or insight files.</p>\n",
		number(s.Read.Duplicates), number(s.Copies), number(s.Read.Broken), number(s.Read.Foreign), number(s.Read.Failed), number(s.DigestFiles))
	p.tag("<div class=\"tiles\">\n")
	for _, t := range []struct {
		count int
		what  string
		bad   bool
	}{
		{s.Calls, "calls", false}, {s.Named, "named", false}, {s.Escapes, "escapes", true},
		{s.BaseCalls, "by unnamed base credentials", false}, {s.Disputed, "disputed", true}, {s.Conflicts, "conflicts", true},
	} {
		p.tag("<div class=\"tile%s\"><b>%s</b>%s</div>\n", when(t.bad && t.count > 0, " bad"), number(t.count), t.what)
	}
	p.tag("</div>\n<p>Evidence:")
	for _, rung := range slices.Sorted(maps.Keys(s.Rungs)) {
		p.element(" ", string(rung), " "+number(s.Rungs[rung])+";")
	}
	if len(s.Reasons) > 0 {
		p.tag(" no name:")
		for _, reason := range slices.Sorted(maps.Keys(s.Reasons)) {
			p.element(" ", string(reason), " "+number(s.Reasons[reason])+";")
		}
	}
	p.tag("</p>\n")
}

func (d *Document) htmlConflicts(p page) {
	if len(d.Conflicts) == 0 {
		return
	}
	p.tag("<h2>Conflicts</h2>\n")
	p.table("", []column{{"last (UTC)", "11rem", ""}, {"kind", "9rem", ""}, {"what", "", ""}, {"access key, addresses", "14rem", ""}, {"claims", "5rem", "n"}}, len(d.Conflicts), func(i int) {
		c := d.Conflicts[i]
		p.cell("t", c.Last.Format(clock))
		p.cell("bad", string(c.Kind))
		p.cell("", c.Text)
		p.element("<td><code>", c.Key, "</code> ")
		p.element("", strings.Join(c.Addresses, ", "), "</td>")
		p.cell("n", number(c.Claims))
	})
}

func (d *Document) htmlEscapes(p page) {
	if len(d.Escapes) == 0 {
		return
	}
	p.tag("<h2>Escapes</h2>\n")
	p.table("", []column{{"time (UTC)", "11rem", ""}, {"who", "13rem", ""}, {"call", "16rem", ""}, {"resource", "", ""}, {"from", "10rem", ""}}, len(d.Escapes), func(i int) {
		e := d.Escapes[i]
		p.cell("t", e.Time.Format(clock))
		p.cell("", e.Who())
		p.cell("", e.Action)
		p.cell("", e.Resource)
		p.cell("", e.Address)
	})
}

func (d *Document) htmlTimeline(p page) {
	strips := d.strips()
	if len(strips) == 0 {
		return
	}
	p.tag("<h2>Timeline</h2>\n")
	for _, s := range strips {
		p.element("<div class=\"strip\"><span title=\"", s.Name, "\">")
		p.element("", s.Name, "</span>")
		p.tag(`<svg viewBox="0 0 1000 20" preserveAspectRatio="none" role="img"><line x1="0" y1="20" x2="1000" y2="20"/>`)
		for _, b := range s.Bars {
			p.tag(`<rect x="%g" y="%g" width="%g" height="%g"%s>`, b.X, b.Y, b.Width, b.Height, class(when(b.Escape, "bad")))
			p.element("<title>", b.Title, "</title></rect>")
		}
		p.tag("</svg><span class=\"dim\">%s</span></div>\n", number(s.Calls))
	}
	p.tag(`<div class="strip"><span></span><svg class="axis" role="img">`)
	for _, t := range d.axis() {
		p.tag(`<text x="%d%%" y="12">%s</text>`, t.Percent, t.Label)
	}
	p.tag("</svg><span></span></div>\n")
}

func (d *Document) htmlActions(p page) {
	if len(d.Actions) == 0 {
		return
	}
	p.tag("<h2>Top actions</h2>\n")
	p.table("", []column{{"action", "", ""}, {"calls", "", "n"}, {"errors", "", "n"}, {"escapes", "", "n"}, {"names", "", "n"}}, len(d.Actions), func(i int) {
		a := d.Actions[i]
		p.cell("", a.Key)
		for _, n := range []int{a.Calls, a.Errors, a.Escapes, a.Names} {
			p.cell("n", number(n))
		}
	})
}

func (d *Document) htmlCalls(p page) {
	if len(d.Calls) == 0 {
		return
	}
	p.tag("<h2>Calls</h2>\n<p><input id=\"filter\" type=\"search\" placeholder=\"words to look for\" aria-label=\"filter\"> <span id=\"shown\" class=\"dim\">%s shown</span>", number(len(d.Calls)))
	if d.Left > 0 {
		p.tag(` <span class="dim">of %s, the newest</span>`, number(d.Summary.Calls))
	}
	p.tag("</p>\n")
	p.table(` id="calls"`, []column{{"time (UTC)", "10.5rem", ""}, {"who", "11rem", ""}, {"how", "10rem", ""}, {"call", "14rem", ""}, {"resource", "", ""}, {"from", "9rem", ""}, {"note", "14rem", ""}}, len(d.Calls), func(i int) {
		c := d.Calls[i]
		p.cell("t", c.Time.Format(clock))
		p.cell(when(c.Name == "", "warn"), c.Who())
		p.cell("dim", c.How())
		p.cell("", c.Action)
		p.cell("", c.Resource)
		p.cell("", c.Address)
		p.element("<td"+class(when(c.Escape != "" || c.Conflict != "", "bad"))+">", c.Note(), "")
		if c.Opener != "" {
			p.element(` <span class="dim">opened by `, c.Opener, "</span>")
		}
		p.tag("</td>")
	})
	p.tag("<script>%s</script>\n", script)
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
