package who

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"io"
	"net/netip"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/trail"
	"github.com/nbidentityd/nbidentityd/internal/trail/athena"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/report"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

var errHelp = errors.New("help was asked for")

const unattributed = "(not attributed)"

const usage = `usage: nbidentityd who [flags] PATH...

Says, from CloudTrail records, who made which calls, how that is known and how
sure it is. PATH is a file, a directory as CloudTrail delivers it to S3,
s3://BUCKET/PREFIX, or - for standard input; JSON in any of CloudTrail's
wrappings, plain, gzip or zstd. AWS is asked with your own credentials; of a
trail in S3, days outside --since and --until are not fetched.

  --lookup           read CloudTrail's event history: 90 days of management
                     events of [--region R], at AWS's 100 events a second

What to show (calls, the newest first, if nothing else is asked for):
  --by name|action|resource|hour   counts instead of calls
  --conflicts        alarms: names that were claimed against other evidence
  --sessions         which credentials came from which
  --queries          queries under Lake Formation: who, text, tables, objects
  --jobs             jobs and pipelines, and who started them
Which calls:
  --name NAME        of this name; may be repeated
  --action PATTERN   such as s3:GetObject or sagemaker:Delete*
  --resource TEXT    whose resource contains this, or matches it with * and ?
  --ip ADDRESS       from this address or network (10.0.0.0/8)
  --since, --until   a time (2026-07-01, 2026-07-01T20:00:00Z) or how long ago (36h, 7d)
  --unattributed     that could not be named
  --escapes          made with base credentials, around the attributed ones
How:
  --format text|json|csv
  --html FILE        one page for reading and printing; - is standard output
  --limit N          at most N rows (default 50 as text, 10000 otherwise; 0 is all)
  --template T       how names are written in sessions (default {name})
  --workers N        inputs read at a time (default: one for each processor, 8 from AWS)
Without PATH, for a trail too large to fetch:
  --athena           print the table and the queries that answer on Amazon Athena,
                     for --bucket s3://BUCKET/PREFIX --account ID --region R
                     [--org o-ID]; several accounts and regions with commas

Exit codes: 0 done, 1 failed, 2 usage, 3 --escapes or --conflicts found some.
`

// options is the command line.
type options struct {
	paths                                                     []string
	by, format, html                                          string
	names                                                     []string
	action, resource                                          string
	network                                                   netip.Prefix
	since, until                                              int64 // Unix seconds; 0 is open
	unattributed, escapes, conflicts, sessions, queries, jobs bool
	limit, workers                                            int
	template                                                  identity.Template
	athena                                                    *athena.Trail // the table and queries are wanted
	lookup                                                    bool          // read the event history
	regions                                                   []string      // of the event history
}

func parse(args []string, stderr io.Writer, now time.Time) (*options, error) {
	o := &options{limit: -1}
	var since, until, template, address string
	f := flag.NewFlagSet("who", flag.ContinueOnError)
	f.SetOutput(io.Discard)
	f.StringVar(&o.by, "by", "", "")
	f.StringVar(&o.format, "format", "text", "")
	f.StringVar(&o.html, "html", "", "")
	f.Func("name", "", func(s string) error { o.names = append(o.names, s); return nil })
	f.StringVar(&o.action, "action", "", "")
	f.StringVar(&o.resource, "resource", "", "")
	f.StringVar(&address, "ip", "", "")
	f.StringVar(&since, "since", "", "")
	f.StringVar(&until, "until", "", "")
	f.StringVar(&template, "template", "{name}", "")
	f.BoolVar(&o.unattributed, "unattributed", false, "")
	f.BoolVar(&o.escapes, "escapes", false, "")
	f.BoolVar(&o.conflicts, "conflicts", false, "")
	f.BoolVar(&o.sessions, "sessions", false, "")
	f.BoolVar(&o.queries, "queries", false, "")
	f.BoolVar(&o.jobs, "jobs", false, "")
	f.IntVar(&o.limit, "limit", -1, "")
	f.IntVar(&o.workers, "workers", automatic, "")
	f.BoolVar(&o.lookup, "lookup", false, "")
	cloud := newAthenaFlags(f)
	if err := parseAnywhere(f, args, &o.paths); errors.Is(err, flag.ErrHelp) {
		fmt.Fprint(stderr, usage)
		return nil, errHelp
	} else if err != nil {
		return nil, fmt.Errorf("%w; --help lists the flags", err)
	}
	if o.lookup && !cloud.wanted && cloud.regions != "" {
		o.regions, cloud.regions = strings.Split(cloud.regions, ","), ""
	}
	if cloud.asked() {
		var err error
		o.athena, err = cloud.trail(f, o.paths)
		return o, err
	}
	var err error
	if o.template, err = identity.ParseTemplate(template); err != nil {
		return nil, fmt.Errorf("--template: %w", err)
	}
	if o.since, err = parseTime(since, now); err != nil {
		return nil, fmt.Errorf("--since: %w", err)
	}
	if o.until, err = parseTime(until, now); err != nil {
		return nil, fmt.Errorf("--until: %w", err)
	}
	if o.network, err = parseNetwork(address); err != nil {
		return nil, fmt.Errorf("--ip: %w", err)
	}
	return o, o.check()
}

// parseAnywhere takes flags before, between and behind the paths; what follows -- is
// paths.
func parseAnywhere(f *flag.FlagSet, args []string, paths *[]string) error {
	var rest []string
	if at := slices.Index(args, "--"); at >= 0 {
		args, rest = args[:at], args[at+1:]
	}
	for {
		if err := f.Parse(args); err != nil {
			return err
		}
		if args = f.Args(); len(args) == 0 {
			*paths = append(*paths, rest...)
			return nil
		}
		*paths = append(*paths, args[0])
		args = args[1:]
	}
}

func (o *options) check() error {
	if o.workers == automatic {
		o.workers = runtime.GOMAXPROCS(0)
		if o.lookup || slices.ContainsFunc(o.paths, isPlace) {
			o.workers = max(o.workers, fetchers)
		}
	}
	if o.limit < 0 {
		o.limit = 10000
		if o.format == "text" && o.html == "" {
			o.limit = 50
		}
	}
	views := 0
	for _, asked := range []bool{o.by != "", o.conflicts, o.sessions, o.queries, o.jobs} {
		if asked {
			views++
		}
	}
	switch {
	case len(o.paths) == 0 && !o.lookup:
		return errors.New("no PATH to read; - is standard input, --help lists the flags")
	case slices.Contains(o.regions, ""):
		return errors.New("--region: an empty region")
	case !slices.Contains([]string{"", "name", "action", "resource", "hour"}, o.by):
		return fmt.Errorf("--by %s: expected name, action, resource or hour", o.by)
	case !slices.Contains([]string{"text", "json", "csv"}, o.format):
		return fmt.Errorf("--format %s: expected text, json or csv", o.format)
	case views > 1:
		return errors.New("only one of --by, --conflicts, --sessions, --queries and --jobs at a time")
	case views > 0 && o.html != "":
		return errors.New("--html shows everything; it goes with no --by, --conflicts, --sessions, --queries or --jobs")
	case o.workers < 1 || o.workers > 1024:
		return fmt.Errorf("--workers %d: expected 1 to 1024", o.workers)
	case o.since != 0 && o.until != 0 && o.until < o.since:
		return errors.New("--until is before --since")
	}
	return nil
}

// parseTime reads a time, or how long ago it was. 0 is no limit.
func parseTime(s string, now time.Time) (int64, error) {
	if s == "" {
		return 0, nil
	}
	for _, layout := range []string{time.RFC3339, "2006-01-02T15:04:05", "2006-01-02T15:04", "2006-01-02 15:04:05", "2006-01-02 15:04", time.DateOnly} {
		if t, err := time.Parse(layout, s); err == nil {
			return t.Unix(), nil
		}
	}
	if days, found := strings.CutSuffix(s, "d"); found {
		if n, err := strconv.Atoi(days); err == nil && n >= 0 && n < 100000 {
			return now.Unix() - int64(n)*86400, nil
		}
	}
	if d, err := time.ParseDuration(s); err == nil && d >= 0 {
		return now.Add(-d).Unix(), nil
	}
	return 0, fmt.Errorf("%.40q is neither a time such as 2026-07-01 or 2026-07-01T20:00:00Z nor how long ago, such as 36h or 7d", s)
}

func parseNetwork(s string) (netip.Prefix, error) {
	if s == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(s); err == nil {
		return netip.PrefixFrom(a, a.BitLen()), nil
	}
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("%.60q is neither an address nor a network such as 10.0.0.0/8", s)
	}
	return p.Masked(), nil
}

// automatic is the number of workers when none is given.
const automatic = -1

// fetchers is how many inputs are fetched at a time: most of the time is waiting.
const fetchers = 8

// place is one of the places to fetch from.
func (o *options) place(url string) source.Place {
	p := source.Place{URL: url, Regions: o.regions}
	if o.since != 0 {
		p.Since = time.Unix(o.since, 0)
	}
	if o.until != 0 {
		p.Until = time.Unix(o.until, 0)
	}
	return p
}

func isPlace(path string) bool { return strings.Contains(path, "://") }

func lakeFormation(session string) bool { return strings.HasPrefix(session, "AWSLF-") }

// showCalls reports whether single calls are shown.
func (o *options) showCalls() bool {
	return o.by == "" && !o.conflicts && !o.sessions && !o.queries && !o.jobs
}

// within reports whether a time is one that was asked for.
func (o *options) within(at int64) bool {
	return (o.since == 0 || at >= o.since) && (o.until == 0 || at < o.until)
}

// overlaps reports whether something that lasted is within the time that was asked for
// by a part of it.
func (o *options) overlaps(first, last int64) bool {
	return (o.since == 0 || last >= o.since) && (o.until == 0 || first < o.until)
}

// wants reports whether a call is one that was asked for, its answer aside.
func (o *options) wants(c *calls.Call) bool {
	if !o.within(c.Time) {
		return false
	}
	if o.action != "" && !matches(o.action, report.Action(c), false) {
		return false
	}
	if o.resource != "" && !matches(o.resource, c.Resource, true) {
		return false
	}
	if o.network.IsValid() {
		a, err := netip.ParseAddr(c.Address)
		return err == nil && o.network.Contains(a.Unmap())
	}
	return true
}

// matches reports whether s is what the pattern says, with * and ? for anything, case
// aside. Without them it is enough that s contains it, if so asked.
func matches(pattern, s string, part bool) bool {
	pattern, s = strings.ToLower(pattern), strings.ToLower(s)
	if !strings.ContainsAny(pattern, "*?") {
		return s == pattern || part && strings.Contains(s, pattern)
	}
	return wild(pattern, s)
}

// wild matches * with any text and ? with any byte, in time linear in s for each *.
func wild(pattern, s string) bool {
	star, retry := -1, 0
	p, i := 0, 0
	for i < len(s) {
		switch {
		case p < len(pattern) && pattern[p] == '*':
			star, retry = p, i
			p++
		case p < len(pattern) && (pattern[p] == '?' || pattern[p] == s[i]):
			p++
			i++
		case star >= 0:
			retry++
			p, i = star+1, retry
		default:
			return false
		}
	}
	return strings.Trim(pattern[p:], "*") == ""
}

// wantsAnswer reports whether the answer is one that was asked for.
func (o *options) wantsAnswer(a *trail.Answer) bool {
	switch {
	case o.unattributed && a.Name != "":
		return false
	case o.escapes && a.Escape == trail.NoEscape:
		return false
	case len(o.names) == 0:
		return true
	}
	return o.wantsName(a.Name) || a.Name == "" && slices.ContainsFunc(a.Candidates, o.wantsName)
}

func (o *options) wantsName(name string) bool {
	return name != "" && slices.ContainsFunc(o.names, func(pattern string) bool { return matches(pattern, name, false) })
}

// key is what a call is grouped by.
func (o *options) key(c *calls.Call, a *trail.Answer) string {
	switch o.by {
	case "name":
		return cmp.Or(a.Name, unattributed)
	case "action":
		return report.Action(c)
	case "hour":
		return time.Unix(c.Time-c.Time%3600, 0).UTC().Format("2006-01-02 15:00")
	}
	if bucket, object, found := strings.Cut(strings.TrimPrefix(c.Resource, "s3://"), "/"); found && object != "" && strings.HasPrefix(c.Resource, "s3://") {
		return "s3://" + bucket + "/" // objects are too many to be counted one by one
	}
	return cmp.Or(c.Resource, "(none)")
}

// title says in words what was asked for.
func (o *options) title() string {
	title := "Who made which calls"
	for _, part := range []struct{ label, value string }{
		{"name ", strings.Join(o.names, ", ")}, {"action ", o.action}, {"resource ", o.resource},
	} {
		if part.value != "" {
			title += ", " + part.label + part.value
		}
	}
	if o.network.IsValid() {
		title += ", from " + o.network.String()
	}
	for _, limit := range []struct {
		label string
		at    int64
	}{{"since ", o.since}, {"until ", o.until}} {
		if limit.at != 0 {
			title += ", " + limit.label + time.Unix(limit.at, 0).UTC().Format("2006-01-02 15:04")
		}
	}
	if o.unattributed {
		title += ", without a name"
	}
	if o.escapes {
		title += ", escapes"
	}
	return title
}
