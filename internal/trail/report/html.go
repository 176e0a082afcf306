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

	"github.com/nbidentityd/nbidentityd/internal/trail"
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

// maxText is how many characters of a value are shown: names and ARNs are shorter, and
// whoever wants the rest has JSON and CSV.
const maxText = 400

// text writes a value. What is too long loses its middle.
func (p page) text(s string) {
	s = Clean(s)
	if len(s) > maxText {
		if runes := []rune(s); len(runes) > maxText {
			s = fmt.Sprintf("%s … (%s characters) … %s", string(runes[:maxText/2]), number(len(runes)), string(runes[len(runes)-maxText/4:]))
		}
	}
	p.w.WriteString(html.EscapeString(s))
}

// element writes text within a tag; open is markup of ours.
func (p page) element(open, s, close string) {
	p.w.WriteString(open)
	p.text(s)
	p.w.WriteString(close)
}

// column is one of a table; a width of "" is what is left. Widths are shares, so that
// the table fits paper too.
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
	d.htmlContents(p)
	d.htmlEvidence(p)
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
		{s.BaseCalls, "by unnamed base credentials", false}, {s.StartUps, "by start-up scripts", false}, {s.Disputed, "disputed", true}, {s.Conflicts, "conflicts", true},
	} {
		p.tag("<div class=\"tile%s\"><b>%s</b>%s</div>\n", when(t.bad && t.count > 0, " bad"), number(t.count), t.what)
	}
	p.tag("</div>\n")
}

// htmlContents links to the parts of the page.
func (d *Document) htmlContents(p page) {
	p.tag("<nav>")
	for _, part := range []struct {
		id, title string
		count     int
	}{
		{"evidence", "How names are known", len(d.Summary.Rungs) + len(d.Summary.Reasons)}, {"conflicts", "Conflicts", len(d.Conflicts)}, {"escapes", "Escapes", len(d.Escapes)},
		{"timeline", "Timeline", len(d.Timelines)}, {"actions", "Top actions", len(d.Actions)}, {"made", "Calls", len(d.Calls)},
	} {
		if part.count > 0 {
			p.tag(`<a href="#%s">%s</a>`, part.id, part.title)
		}
	}
	p.tag("</nav>\n")
}

// htmlEvidence says how many calls each kind of evidence named, in words, and why the
// others have no name.
func (d *Document) htmlEvidence(p page) {
	s := d.Summary
	if s.Calls == 0 {
		return
	}
	p.tag("<h2 id=\"evidence\">How names are known</h2>\n")
	type line struct{ label, text string }
	var lines []line
	for _, rung := range slices.Sorted(maps.Keys(s.Rungs)) {
		lines = append(lines, line{rung, trail.Rung(rung).Text()})
	}
	for _, reason := range slices.Sorted(maps.Keys(s.Reasons)) {
		lines = append(lines, line{reason, "No name: " + trail.Reason(reason).Text()})
	}
	p.table("", []column{{"evidence", "20%", ""}, {"what it means", "", ""}, {"calls", "9%", "n"}, {"of all", "8%", "n"}}, len(lines), func(i int) {
		count := s.Rungs[lines[i].label]
		named := i < len(s.Rungs)
		if !named {
			count = s.Reasons[lines[i].label]
		}
		p.element("<td"+class(when(!named, "warn"))+"><code>", lines[i].label, "</code></td>")
		p.cell("", lines[i].text)
		p.cell("n", number(count))
		p.cell("n dim", fmt.Sprintf("%.1f %%", 100*float64(count)/float64(s.Calls)))
	})
}

func (d *Document) htmlConflicts(p page) {
	if len(d.Conflicts) == 0 {
		return
	}
	p.tag("<h2 id=\"conflicts\">Conflicts</h2>\n<p class=\"dim\">Somebody claimed a name that other evidence denies. A name that the evidence disputes is never given as an answer.</p>\n")
	p.table("", []column{{"last (UTC)", "14%", ""}, {"kind", "13%", ""}, {"what", "", ""}, {"access key, addresses", "21%", ""}, {"claims", "8%", "n"}}, len(d.Conflicts), func(i int) {
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
	p.tag("<h2 id=\"escapes\">Escapes</h2>\n<p class=\"dim\">Calls made with base credentials that claimed a name elsewhere: around the attributed ones. %s of %s, the newest.</p>\n", number(len(d.Escapes)), number(max(d.Summary.Escapes, len(d.Escapes))))
	p.table("", []column{{"time (UTC)", "14%", ""}, {"who", "18%", ""}, {"call", "19%", ""}, {"resource", "", ""}, {"from", "12%", ""}}, len(d.Escapes), func(i int) {
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
	p.tag("<h2 id=\"timeline\">Timeline</h2>\n<p class=\"dim\">Calls an hour, each name on a scale of its own; escapes in red.</p>\n")
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
	p.tag("<h2 id=\"actions\">Top actions</h2>\n")
	p.table("", []column{{"action", "", ""}, {"calls", "10%", "n"}, {"errors", "10%", "n"}, {"escapes", "10%", "n"}, {"names", "10%", "n"}}, len(d.Actions), func(i int) {
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
	p.tag("<h2 id=\"made\">Calls</h2>\n<p><input id=\"filter\" type=\"search\" placeholder=\"words to look for\" aria-label=\"filter\"> <span id=\"shown\" class=\"dim\">%s shown</span>", number(len(d.Calls)))
	if d.Left > 0 {
		p.tag(` <span class="dim">of %s, the newest</span>`, number(d.Summary.Calls))
	}
	p.tag("</p>\n")
	p.table(` id="calls"`, []column{{"time (UTC)", "12%", ""}, {"who", "12%", ""}, {"how", "13%", ""}, {"call", "17%", ""}, {"resource", "", ""}, {"from", "9%", ""}, {"note", "12%", ""}}, len(d.Calls), func(i int) {
		c := d.Calls[i]
		p.cell("t", c.Time.Format(clock))
		p.cell(when(c.Name == "", "warn"), c.Who())
		p.cell("dim", c.How())
		p.cell("", c.Action)
		p.cell("", c.Resource)
		p.cell("", c.Address)
		p.element("<td"+class(when(c.Escape == trail.Bypass || c.Escape == trail.Possible || c.Conflict != "", "bad"))+">", c.Note(), "")
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
			height := func(calls int) float64 { return 3 + (stripHeight-3)*float64(calls)/float64(most) }
			title := h.Start.Format("2006-01-02 15:04") + ": " + number(h.Calls) + " calls"
			if h.Escapes > 0 {
				title += ", " + number(h.Escapes) + " escapes"
			}
			b := bar{
				X: stripWidth * float64(h.Start.Sub(start)) / float64(length), Width: max(stripWidth*float64(time.Hour)/float64(length)-1, 0.5),
				Y: stripHeight - height(h.Calls), Height: height(h.Calls), Title: title,
			}
			s.Bars = append(s.Bars, b)
			if h.Escapes > 0 { // their share, before the others
				b.Y, b.Height, b.Escape = stripHeight-height(h.Escapes), height(h.Escapes), true
				s.Bars = append(s.Bars, b)
			}
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
