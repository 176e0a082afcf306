package s3files

import (
	"encoding/xml"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

// list returns the keys, and the common prefixes, of all pages.
func list(t *testing.T, b scenario.Bucket, query string) (all []string, pages int) {
	t.Helper()
	q, err := url.ParseQuery(query)
	if err != nil {
		t.Fatal(err)
	}
	for {
		answer, failure := listObjects(b, q)
		if failure != nil {
			t.Fatalf("%s: %v", query, failure)
		}
		var page listing
		if err := xml.Unmarshal(answer.Body, &page); err != nil {
			t.Fatal(err)
		}
		pages++
		var these []string
		for _, o := range page.Contents {
			these = append(these, o.Key)
		}
		for _, p := range page.CommonPrefixes {
			these = append(these, p.Prefix)
		}
		all = append(all, these...)
		if second := q.Get("list-type") == "2"; second && page.KeyCount != len(these) {
			t.Errorf("%s: KeyCount %d of %v", query, page.KeyCount, these)
		}
		switch {
		case !page.IsTruncated:
			return all, pages
		case q.Get("list-type") == "2":
			q.Set("continuation-token", page.NextContinuationToken)
		case page.NextMarker != "":
			q.Set("marker", page.NextMarker)
		default:
			q.Set("marker", these[len(these)-1])
		}
	}
}

func TestList(t *testing.T) {
	dir := t.TempDir()
	for _, key := range []string{"a-b", "a/1", "a/2", "a/c/3", "b", "logs/x/1", "logs/y/1", "logs/z"} {
		path := filepath.Join(dir, key)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	b := scenario.Bucket{Name: "trail", Directory: dir}
	for query, want := range map[string]string{
		"list-type=2":                             "a-b a/1 a/2 a/c/3 b logs/x/1 logs/y/1 logs/z",
		"list-type=2&prefix=a":                    "a-b a/1 a/2 a/c/3",
		"list-type=2&delimiter=/":                 "a-b b a/ logs/",
		"list-type=2&delimiter=/&prefix=logs/":    "logs/z logs/x/ logs/y/",
		"list-type=2&start-after=a/1":             "a/2 a/c/3 b logs/x/1 logs/y/1 logs/z",
		"list-type=2&start-after=a/1&delimiter=/": "b a/ logs/",
		"list-type=2&max-keys=0":                  "",
		"marker=b":                                "logs/x/1 logs/y/1 logs/z",
		"marker=a/&delimiter=/":                   "b logs/",
	} {
		got, pages := list(t, b, query)
		if diff := cmp.Diff(strings.Fields(want), append([]string{}, got...)); diff != "" || pages != 1 {
			t.Errorf("%s: %d pages %s", query, pages, diff)
		}
	}
	for query, pages := range map[string]int{"list-type=2&max-keys=3": 3, "max-keys=3": 3, "list-type=2&max-keys=1&delimiter=/": 4, "max-keys=1&delimiter=/": 4} {
		small, n := list(t, b, query)
		q, _ := url.ParseQuery(query)
		q.Del("max-keys")
		whole, _ := list(t, b, q.Encode())
		if !sameSet(small, whole) || n != pages {
			t.Errorf("%s: %v in %d pages, want %v in %d", query, small, n, whole, pages)
		}
	}
	for _, query := range []string{"list-type=2&max-keys=x", "list-type=2&max-keys=-1", "list-type=2&continuation-token=xyz", "list-type=2&continuation-token=" + url.QueryEscape(token("other", "a"))} {
		q, _ := url.ParseQuery(query)
		if _, failure := listObjects(b, q); failure == nil || failure.Code != "InvalidArgument" {
			t.Errorf("%s: %v", query, failure)
		}
	}
}

func sameSet(a, b []string) bool {
	set := map[string]bool{}
	for _, s := range a {
		set[s] = true
	}
	for _, s := range b {
		if !set[s] {
			return false
		}
	}
	return len(a) == len(b) && len(set) == len(a)
}
