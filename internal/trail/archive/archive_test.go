package archive

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/trail/intake"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
	"github.com/nbidentityd/nbidentityd/internal/trail/trailgen"
)

// The tests run the SDK's real clients against the stand-in for AWS, in process.

// newAccount has a bucket with a trail, and a role of each kind.
func newAccount(t *testing.T, bucket string) *fakeaws.Account {
	t.Helper()
	s := fakeaws.DefaultScenario()
	s.Buckets = append(s.Buckets, scenario.Bucket{Name: "trail", Directory: bucket, Region: "eu-west-1"})
	a, err := fakeaws.New(fakeaws.Config{Scenario: s})
	if err != nil {
		t.Fatal(err)
	}
	admin(t, a, "PUT", "/roles/Auditor", `{"trust": `+trust+`, "policies": [{"name": "Read", "document": {
		"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject", "s3:ListAllMyBuckets", "cloudtrail:LookupEvents"], "Resource": "*"}]}}]}`)
	admin(t, a, "PUT", "/roles/Stranger", `{"trust": `+trust+`, "policies": []}`)
	return a
}

const trust = `{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]}`

func admin(t *testing.T, a *fakeaws.Account, method, path, body string) []byte {
	t.Helper()
	w := httptest.NewRecorder()
	a.Admin().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	if w.Code != http.StatusOK {
		t.Fatalf("%s %s: %s", method, path, w.Body)
	}
	return w.Body.Bytes()
}

// as is the configuration of somebody who has signed in as a role.
func as(t *testing.T, a *fakeaws.Account, role string) aws.Config {
	t.Helper()
	var c struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	if err := json.Unmarshal(admin(t, a, "POST", "/sessions", `{"role": "`+role+`"}`), &c); err != nil {
		t.Fatal(err)
	}
	return aws.Config{
		Region: "us-east-1", Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyId, c.SecretAccessKey, c.SessionToken),
		HTTPClient: &http.Client{Transport: a.Transport()},
	}
}

var firstDay = time.Date(2026, 7, 1, 0, 0, 0, 0, time.UTC)

// trail writes three days of records, and what other services put beside them.
func trail(t *testing.T) (dir string) {
	t.Helper()
	dir = t.TempDir()
	if _, err := trailgen.Write(dir, trailgen.Config{Seed: 2, Records: 300, Notebooks: 20, Days: 3, Start: firstDay}); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{"AWSLogs/111122223333/Config/us-east-1/2026/7/1/snapshot.json.gz", "AWSLogs/111122223333/vpcflowlogs/x.log.gz", "readme.txt"} {
		path = filepath.Join(dir, path)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte("no record"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return dir
}

func names(inputs []source.Input) (names []string) {
	for _, input := range inputs {
		names = append(names, strings.TrimPrefix(input.Name, "s3://trail/"))
	}
	return names
}

// local are the names of a directory's files below CloudTrail.
func local(t *testing.T, dir string, wanted func(day string) bool) (keys []string) {
	t.Helper()
	inputs, _, err := source.Find([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	for _, input := range inputs {
		key, err := filepath.Rel(dir, input.Name)
		if err != nil {
			t.Fatal(err)
		}
		if parts := strings.Split(key, "/"); parts[2] == "CloudTrail" && wanted(strings.Join(parts[4:7], "-")) {
			keys = append(keys, key)
		}
	}
	slices.Sort(keys)
	return keys
}

func TestTrailInS3(t *testing.T) {
	dir := trail(t)
	a := newAccount(t, dir)
	archive := New(as(t, a, "Auditor"))
	everything := func(string) bool { return true }
	day := func(n int) time.Time { return firstDay.AddDate(0, 0, n) }
	for name, tt := range map[string]struct {
		place  source.Place
		wanted func(day string) bool
	}{
		"all":               {source.Place{URL: "s3://trail"}, everything},
		"with a slash":      {source.Place{URL: "s3://trail/"}, everything},
		"a prefix":          {source.Place{URL: "s3://trail/AWSLogs/"}, everything},
		"no whole folder":   {source.Place{URL: "s3://trail/AWSLogs/1111"}, nil},
		"since":             {source.Place{URL: "s3://trail/", Since: day(2).Add(time.Hour)}, func(d string) bool { return d >= "2026-07-02" }},
		"until":             {source.Place{URL: "s3://trail/", Until: day(0).Add(time.Hour)}, func(d string) bool { return d <= "2026-07-02" }},
		"between":           {source.Place{URL: "s3://trail/", Since: day(3).Add(time.Hour), Until: day(4)}, func(d string) bool { return d >= "2026-07-03" }},
		"nothing so late":   {source.Place{URL: "s3://trail/", Since: day(30)}, func(string) bool { return false }},
		"one day's folder":  {source.Place{URL: "s3://trail/AWSLogs/111122223333/CloudTrail/us-east-1/2026/07/02/"}, nil},
		"and not that late": {source.Place{URL: "s3://trail/AWSLogs/111122223333/CloudTrail/us-east-1/2026/07/02/", Until: day(-1)}, func(string) bool { return false }},
	} {
		inputs, skipped, err := archive.Find(t.Context(), tt.place)
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		wanted := tt.wanted
		if wanted == nil {
			wanted = everything
		}
		want := local(t, dir, wanted)
		if tt.wanted == nil {
			prefix := strings.TrimPrefix(tt.place.URL, "s3://trail/")
			want = slices.DeleteFunc(want, func(key string) bool { return !strings.HasPrefix(key, prefix) })
		}
		if diff := cmp.Diff(want, names(inputs)); diff != "" {
			t.Errorf("%s: %s", name, diff)
		}
		if name == "all" && (len(inputs) < 100 || skipped.Folders != 4 || skipped.Other != 1) { // Digest, Insight, Config, vpcflowlogs; readme.txt
			t.Errorf("%d inputs, skipped %+v", len(inputs), skipped)
		}
	}
	for _, r := range a.Records() {
		if r.EventSource == "s3.amazonaws.com" && r.EventName != "ListObjects" && r.EventName != "HeadBucket" {
			t.Fatalf("finding made a call of %s", r.EventName)
		}
	}
}

func TestObjectsHoldWhatFilesHold(t *testing.T) {
	dir := trail(t)
	read := func(inputs []source.Input) intake.Stats {
		t.Helper()
		got, err := intake.Read(t.Context(), inputs, nil, intake.Config{Workers: 4, TempDir: t.TempDir()})
		if err != nil {
			t.Fatal(err)
		}
		defer got.Spool.Close()
		return got.Stats
	}
	files, _, err := source.Find([]string{filepath.Join(dir, "AWSLogs", "111122223333", "CloudTrail")}, nil)
	if err != nil {
		t.Fatal(err)
	}
	cfg := as(t, newAccount(t, dir), "Auditor")
	cut := &cutting{RoundTripper: cfg.HTTPClient.(*http.Client).Transport, times: 2}
	cfg.HTTPClient = &http.Client{Transport: cut}
	objects, _, err := New(cfg).Find(t.Context(), source.Place{URL: "s3://trail/AWSLogs/111122223333/CloudTrail/"})
	if err != nil {
		t.Fatal(err)
	}
	objects = objects[:40]
	want, got := read(files[:40]), read(objects)
	if diff := cmp.Diff(want, got); diff != "" || want.Records == 0 || cut.cuts.Load() != 80 {
		t.Errorf("%d answers cut (-files +objects): %s", cut.cuts.Load(), diff)
	}
}

// cutting cuts the first answers with an object in their middle. It counts by object: the
// reader gives up after three answers without a byte, so that chance must not deal cuts out.
type cutting struct {
	http.RoundTripper
	times   int  // answers of each object
	changed bool // afterwards the object is another

	mu     sync.Mutex
	counts map[string]int
	cuts   atomic.Int64
}

func (c *cutting) RoundTrip(r *http.Request) (*http.Response, error) {
	if c.changed && r.Header.Get("If-Match") != "" {
		r = r.Clone(r.Context())
		return &http.Response{StatusCode: 412, Request: r, Header: http.Header{}, Body: io.NopCloser(strings.NewReader("<Error><Code>PreconditionFailed</Code><Message>m</Message></Error>"))}, nil
	}
	answer, err := c.RoundTripper.RoundTrip(r)
	if err != nil || !strings.HasSuffix(r.URL.Path, ".gz") {
		return answer, err
	}
	c.mu.Lock()
	if c.counts == nil {
		c.counts = map[string]int{}
	}
	c.counts[r.URL.Path]++
	cut := c.counts[r.URL.Path] <= c.times
	c.mu.Unlock()
	if cut {
		text, err := io.ReadAll(answer.Body)
		if err != nil {
			return nil, err
		}
		c.cuts.Add(1)
		answer.Body = io.NopCloser(io.MultiReader(bytes.NewReader(text[:len(text)/2]), failing{}))
	}
	return answer, nil
}

type failing struct{}

func (failing) Read([]byte) (int, error) { return 0, errors.New("connection reset") }

func TestABrokenObjectEnds(t *testing.T) {
	for name, tt := range map[string]struct {
		changed bool
		want    string
	}{
		"always cut": {false, "connection reset"}, // each try gets half of what was left, at last nothing
		"changed":    {true, "PreconditionFailed"},
	} {
		synctest.Test(t, func(t *testing.T) {
			dir := t.TempDir()
			if err := os.WriteFile(filepath.Join(dir, "object.json.gz"), bytes.Repeat([]byte("content"), 1000), 0o600); err != nil {
				t.Fatal(err)
			}
			cfg := as(t, newAccount(t, dir), "Auditor")
			cut := &cutting{RoundTripper: cfg.HTTPClient.(*http.Client).Transport, times: math.MaxInt, changed: tt.changed}
			cfg.HTTPClient = &http.Client{Transport: cut}
			inputs, _, err := New(cfg).Find(t.Context(), source.Place{URL: "s3://trail/"})
			if err != nil {
				t.Fatal(err)
			}
			r, err := inputs[0].Open()
			if err != nil {
				t.Fatal(err)
			}
			defer r.Close()
			if text, err := io.ReadAll(r); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %d bytes, %v", name, len(text), err)
			}
		})
	}
}

func TestRefusalsSayWhatIsNeeded(t *testing.T) {
	a := newAccount(t, "")
	for name, tt := range map[string]struct {
		role, region, url string
		want              []string
	}{
		"no permission": {"Stranger", "us-east-1", "s3://trail/AWSLogs/", []string{"s3://trail/AWSLogs/", "AccessDenied", "needs s3:ListBucket"}},
		"no bucket":     {"Auditor", "us-east-1", "s3://none/", []string{"s3://none/", "NoSuchBucket"}},
		"no place":      {"Auditor", "us-east-1", "gs://trail/", []string{"gs://trail/", "expected s3://BUCKET/PREFIX"}},
		"no name":       {"Auditor", "us-east-1", "s3:///x", []string{"expected s3://BUCKET/PREFIX"}},
		"no region":     {"Auditor", "", "", []string{"--region", "AWS_REGION"}},
	} {
		cfg := as(t, a, tt.role)
		cfg.Region = tt.region
		_, _, err := New(cfg).Find(t.Context(), source.Place{URL: tt.url})
		for _, want := range tt.want {
			if err == nil || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want %s", name, err, want)
			}
		}
	}
	cfg := as(t, a, "Stranger")
	inputs, _, err := New(cfg).Find(t.Context(), source.Place{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := readAll(inputs[0]); err == nil || !strings.Contains(err.Error(), "needs cloudtrail:LookupEvents") {
		t.Errorf("lookup: %v", err)
	}
	cfg.Credentials = nil
	if _, _, err := New(cfg).Find(t.Context(), source.Place{URL: "s3://trail/"}); err == nil {
		t.Error("no credentials, no error")
	}
}

func readAll(input source.Input) (string, error) {
	r, err := input.Open()
	if err != nil {
		return "", err
	}
	defer r.Close()
	text, err := io.ReadAll(r)
	return string(text), err
}

// TestHistory looks up events in simulated time, beside another caller that uses up the
// account's two requests a second.
func TestHistory(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "")
		cfg := as(t, a, "Auditor")
		list := s3.NewFromConfig(cfg)
		began := time.Now()
		for range 230 {
			if _, err := list.ListBuckets(t.Context(), nil); err != nil {
				t.Fatal(err)
			}
			time.Sleep(10 * time.Second)
		}
		inputs, _, err := New(cfg).Find(t.Context(), source.Place{})
		if err != nil || len(inputs) != 1 {
			t.Fatalf("%d inputs, %v", len(inputs), err)
		}
		at := time.Now()
		text, err := readAll(inputs[0])
		if err != nil {
			t.Fatal(err)
		}
		if n := strings.Count(text, `"eventName":"ListBuckets"`); n != 230 {
			t.Errorf("%d events, want 230", n)
		}
		if spent := time.Since(at); spent < 4*lookupInterval || spent > 5*lookupInterval {
			t.Errorf("five pages took %v", spent)
		}
		if done := inputs[0].Done(); done < 229*10 {
			t.Errorf("%d s done of %d", done, inputs[0].Size)
		}

		busy := cloudtrail.NewFromConfig(cfg, func(o *cloudtrail.Options) { o.RetryMaxAttempts = 1 })
		stop := make(chan bool)
		go func() {
			for {
				select {
				case <-stop:
					return
				case <-time.After(300 * time.Millisecond):
					_, _ = busy.LookupEvents(t.Context(), nil) // some are refused
				}
			}
		}()
		since, until := began.Add(1000*time.Second), began.Add(2000*time.Second)
		inputs, _, err = New(cfg).Find(t.Context(), source.Place{Regions: []string{"us-east-1", "eu-west-1"}, Since: since, Until: until})
		if err != nil || len(inputs) != 4 {
			t.Fatalf("%d inputs, %v", len(inputs), err)
		}
		var counts []int
		for _, input := range inputs {
			text, err := readAll(input)
			if err != nil {
				t.Errorf("%s: %v", input.Name, err)
			}
			counts = append(counts, strings.Count(text, `"eventName":"ListBuckets"`))
		}
		close(stop)
		if diff := cmp.Diff([]int{101, 0, 0, 0}, counts); diff != "" { // both ends are included
			t.Errorf("events: %s", diff)
		}
		throttled := 0
		for _, r := range a.Records() {
			if r.ErrorCode == "ThrottlingException" {
				throttled++
			}
		}
		if throttled == 0 {
			t.Error("nobody was throttled, so nothing was waited out")
		}
	})
}

// TestHistoryBegins looks for the AssumeRole that began a session before the time that
// was asked for.
func TestHistoryBegins(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		a := newAccount(t, "")
		if _, err := (&http.Client{Transport: a.TransportFor(fakeaws.Client{Notebook: "alice-nb"})}).Get("http://169.254.169.254/latest/meta-data/"); err != nil {
			t.Fatal(err)
		}
		w := httptest.NewRecorder()
		a.Container().ServeHTTP(w, httptest.NewRequest("GET", a.ContainerPaths()["alice-lab"], nil)) // SageMaker assumes the role
		if w.Code != http.StatusOK {
			t.Fatal(w.Body)
		}
		time.Sleep(6 * time.Hour)
		cfg := as(t, a, "Auditor")
		inputs, _, err := New(cfg).Find(t.Context(), source.Place{Since: time.Now().Add(-time.Hour)})
		if err != nil || len(inputs) != 2 {
			t.Fatalf("%d inputs, %v", len(inputs), err)
		}
		var found []string
		for _, input := range inputs {
			text, err := readAll(input)
			if err != nil {
				t.Fatal(err)
			}
			found = append(found, fmt.Sprint(strings.Count(text, `"eventName":"AssumeRole"`)))
		}
		if diff := cmp.Diff([]string{"0", "1"}, found); diff != "" {
			t.Error(diff)
		}
	})
}
