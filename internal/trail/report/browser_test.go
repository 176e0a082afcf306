package report

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"html"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/trail"
)

// browser is the environment variable with the path of Chromium; make browser sets it.
const browser = "NBIDENTITYD_CHROMIUM"

// probe is a page that opens the report in a frame of a laptop's width and says how it
// is. What it finds it writes where --dump-dom shows it.
const probe = `<!doctype html><meta charset="utf-8"><title>probe</title>
<iframe id="frame" style="width:1280px;height:800px;border:0"></iframe><pre id="found"></pre>
<script>
const frame = document.getElementById("frame"), began = performance.now();
frame.onload = () => {
  const page = frame.contentDocument, root = page.documentElement, box = page.getElementById("filter");
  const height = root.scrollHeight, loaded = performance.now() - began;
  const scroll = performance.now();
  for (let step = 0; step <= 50; step++) { // the page is laid out anew where need be, and the row in sight is found
    frame.contentWindow.scrollTo(0, (height - 800) * step / 50);
    page.elementFromPoint(640, 400).getBoundingClientRect();
  }
  const scrolled = performance.now() - scroll;
  const wide = [...page.querySelectorAll("body *")].filter(e => e.getBoundingClientRect().right > 1280.5).map(e => e.tagName + ":" + e.className);
  const typed = performance.now();
  box.value = "needle-nb"; box.dispatchEvent(new Event("input"));
  const shown = [...page.querySelectorAll("#calls tbody tr")].filter(r => !r.hidden).length;
  root.scrollHeight; // lays out what is left
  document.getElementById("found").textContent = JSON.stringify({
    width: root.scrollWidth, height, wide: wide.slice(0, 5), loaded: Math.round(loaded), scrolled: Math.round(scrolled), filtered: Math.round(performance.now() - typed),
    rows: page.querySelectorAll("#calls tbody tr").length, shown, label: page.getElementById("shown").textContent,
    scripts: page.scripts.length, owned: [window, frame.contentWindow].some(w => "owned" in w), title: page.title,
  });
};
frame.src = "/page";
</script>`

// attacks are contents that would run or load something if they were taken for markup.
var attacks = []string{
	`<script>parent.owned = owned = 1</script>`, `"><script src="/owned.js"></script>`, `</title><script>parent.owned = 1</script>`, `<img src="/owned" onerror="parent.owned=1">`,
	`'><svg onload="parent.owned=1"><use href="/owned"/>`, `</style><link rel="stylesheet" href="/owned">`, `<iframe src="/owned"></iframe>`, `<meta http-equiv="refresh" content="0;url=/owned">`,
	`javascript:parent.owned=1`, `" onmouseover="parent.owned=1" autofocus onfocus="parent.owned=1`, `--></script><script>parent.owned=1</script>`, `<base href="/owned/">`, strings.Repeat("W", 50000),
}

// attacked is a report with n calls, hostile contents among them.
func attacked(n int) *Document {
	d := document("harmless")
	d.Calls, d.Escapes, d.Conflicts, d.Timelines = nil, nil, nil, nil
	for i := range n {
		c := Call{
			Time: noon.Add(-time.Duration(i) * 7 * time.Second), Name: fmt.Sprintf("notebook-%03d-nb", i%200), Rung: trail.RungSource, Confidence: trail.High, Action: "s3:GetObject",
			Resource: fmt.Sprintf("s3://amzn-s3-demo-bucket/features/dt=2026-07-01/part-%05d-of-10000.snappy.parquet", i), Address: "10.0.0.7", EventID: fmt.Sprint(i),
		}
		if i%1000 == 117 {
			c.Name = "needle-nb"
		}
		if i < 5*len(attacks) {
			a := attacks[i%len(attacks)]
			c.Name, c.Resource, c.Error, c.Action, c.Address, c.Opener, c.Claimed = a, a, a, a, a, a, a
		}
		d.Calls = append(d.Calls, c)
	}
	for i, a := range attacks {
		d.Escapes = append(d.Escapes, Call{Time: noon, Name: a, Action: a, Resource: a, Address: a, Escape: trail.Bypass})
		d.Conflicts = append(d.Conflicts, Conflict{Kind: trail.TwoNames, Text: a, Names: []string{a}, Key: a, Addresses: []string{a, a}, First: noon, Last: noon, Claims: 1e6})
		line := Timeline{Name: a, Calls: 24 * i}
		for hour := range 24 * 7 {
			line.Hours = append(line.Hours, Hour{Start: noon.Add(time.Duration(hour) * time.Hour), Calls: hour % 24 * i, Escapes: hour % 50 / 49})
		}
		d.Timelines = append(d.Timelines, line)
		d.Summary.Rungs[a], d.Summary.Reasons[a] = 1e6, 1e6
		d.Actions = append(d.Actions, Group{Key: a, Calls: 1e6})
	}
	return d
}

// TestInABrowser opens the page in Chromium, with ten thousand calls and hostile
// contents, and prints one with a thousand: Chromium takes minutes and gigabytes to print
// a table of ten thousand rows.
func TestInABrowser(t *testing.T) {
	chromium := os.Getenv(browser)
	if chromium == "" {
		t.Skipf("needs Chromium: %s is its path", browser)
	}
	var report, printed bytes.Buffer
	for w, n := range map[*bytes.Buffer]int{&report: 10_000, &printed: 1_000} {
		if err := attacked(n).WriteHTML(w, "Who made which calls, "+attacks[2]); err != nil {
			t.Fatal(err)
		}
	}
	var mu sync.Mutex
	var asked []string
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		mu.Lock()
		asked = append(asked, r.URL.Path)
		mu.Unlock()
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		switch r.URL.Path {
		case "/page":
			_, _ = w.Write(report.Bytes())
		case "/printed":
			_, _ = w.Write(printed.Bytes())
		case "/probe":
			_, _ = w.Write([]byte(probe))
		default:
			http.NotFound(w, r)
		}
	}))
	defer server.Close()
	dir := t.TempDir()
	run := func(args ...string) []byte {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
		defer cancel()
		cmd := exec.CommandContext(ctx, chromium, append([]string{
			"--headless", "--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-dev-shm-usage", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync",
			"--no-proxy-server", "--hide-scrollbars", "--user-data-dir=" + filepath.Join(dir, "profile"),
		}, args...)...)
		cmd.Env = append(os.Environ(), "HOME="+dir)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		cmd.WaitDelay = 5 * time.Second // a child of its own may outlive it
		out, err := cmd.Output()
		if err != nil && !errors.Is(err, exec.ErrWaitDelay) {
			t.Fatalf("%v\n%s", err, errs.String())
		}
		return out
	}

	dom := run("--window-size=1400,900", "--dump-dom", server.URL+"/probe")
	text := regexp.MustCompile(`(?s)<pre id="found">(.*?)</pre>`).FindSubmatch(dom)
	var found struct {
		Width, Height, Loaded, Scrolled, Filtered, Rows, Shown, Scripts int
		Wide                                                            []string
		Label, Title                                                    string
		Owned                                                           bool
	}
	if text == nil || json.Unmarshal([]byte(html.UnescapeString(string(text[1]))), &found) != nil {
		t.Fatalf("the probe says nothing: %.2000s", dom)
	}
	t.Logf("10,000 calls, %d bytes: loaded in %d ms, %d px high; scrolled through in 50 steps in %d ms, filtered in %d ms", report.Len(), found.Loaded, found.Height, found.Scrolled, found.Filtered)
	switch {
	case found.Width > 1280 || len(found.Wide) > 0:
		t.Errorf("%d px wide, beyond the edge: %v", found.Width, found.Wide)
	case found.Owned || found.Scripts != 1:
		t.Errorf("%d scripts, owned %t", found.Scripts, found.Owned)
	case found.Rows != 10_000 || found.Shown != 10 || found.Label != "10 shown":
		t.Errorf("%d rows, %d after filtering, %q", found.Rows, found.Shown, found.Label)
	case !strings.Contains(found.Title, "</title><script>"):
		t.Errorf("title %q", found.Title)
	}

	pdf := filepath.Join(dir, "page.pdf")
	began := time.Now()
	run("--no-pdf-header-footer", "--print-to-pdf="+pdf, server.URL+"/printed")
	t.Logf("printed in %v", time.Since(began).Round(time.Millisecond))
	mu.Lock()
	for _, path := range asked {
		if !slices.Contains([]string{"/page", "/printed", "/probe", "/favicon.ico"}, path) {
			t.Errorf("the page made the browser ask for %s", path)
		}
	}
	mu.Unlock()
	checkPDF(t, pdf)
}

// checkPDF looks for the first and the last call, and for what is only for screens.
func checkPDF(t *testing.T, pdf string) {
	t.Helper()
	tool, err := exec.LookPath("pdftotext")
	if err != nil {
		t.Fatal("needs pdftotext, of Debian's poppler-utils")
	}
	out, err := exec.CommandContext(t.Context(), tool, "-layout", pdf, "-").Output()
	if err != nil {
		t.Fatal(err)
	}
	plain := strings.Join(strings.Fields(string(out)), "")
	for _, want := range []string{"Whomadewhichcalls", "needle-nb", "part-00500-of-10000", "part-00999-of-10000"} {
		if !strings.Contains(plain, want) {
			t.Errorf("no %q in print", want)
		}
	}
	if strings.Contains(plain, "wordstolookfor") {
		t.Error("the filter is printed")
	}
	t.Logf("%d pages", strings.Count(string(out), "\f"))
}
