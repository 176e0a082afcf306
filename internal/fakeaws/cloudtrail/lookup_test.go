package cloudtrail

import (
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func lookupTrail(n int, now time.Time) *Trail {
	trail := New("111122223333", nil)
	for i := range n {
		r := Record{EventID: fmt.Sprint(i), EventName: "GetRole", EventTime: Time(now.Add(time.Duration(i-n) * time.Minute)), AWSRegion: "us-east-1", ManagementEvent: true}
		switch i % 10 {
		case 3:
			r.AWSRegion = "eu-west-1"
		case 4:
			r.ManagementEvent = false
		case 5:
			r.EventName, r.UserIdentity.PrincipalID = "AssumeRole", "AROAEXAMPLE:alice-nb"
		}
		trail.Add(r)
	}
	return trail
}

// pages returns the ids of all pages.
func pages(t *testing.T, trail *Trail, l Lookup, now time.Time) (ids []string, sizes []int) {
	t.Helper()
	for {
		page, err := trail.Lookup(l, now)
		if err != nil {
			t.Fatal(err)
		}
		for _, e := range page.Events {
			ids = append(ids, e.EventId)
		}
		sizes = append(sizes, len(page.Events))
		if l.NextToken = page.NextToken; page.NextToken == "" {
			return ids, sizes
		}
		trail.Add(Record{EventID: "new", EventTime: Time(now), AWSRegion: "us-east-1", ManagementEvent: true}) // does not move the pages
	}
}

func TestLookup(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC)
	for name, tt := range map[string]struct {
		lookup Lookup
		first  string
		sizes  []int
	}{
		"all of a region": {Lookup{}, "199", []int{50, 50, 50, 10}},
		"another region":  {Lookup{Region: "eu-west-1"}, "193", []int{20}},
		"small pages":     {Lookup{MaxResults: 40}, "199", []int{40, 40, 40, 40}},
		"by name":         {Lookup{Key: "EventName", Value: "AssumeRole"}, "195", []int{20}},
		"by user name":    {Lookup{Key: "Username", Value: "alice-nb"}, "195", []int{20}},
		"since, included": {Lookup{Start: now.Add(-time.Minute)}, "199", []int{1}},
		"until, included": {Lookup{End: now.Add(-200 * time.Minute)}, "0", []int{1}},
	} {
		if tt.lookup.Region == "" {
			tt.lookup.Region = "us-east-1"
		}
		ids, sizes := pages(t, lookupTrail(200, now), tt.lookup, now)
		if diff := cmp.Diff(tt.sizes, sizes); diff != "" || ids[0] != tt.first {
			t.Errorf("%s: first %s, want %s; sizes %s", name, ids[0], tt.first, diff)
		}
	}
	if ids, _ := pages(t, lookupTrail(200, now), Lookup{Region: "us-east-1"}, now.Add(history)); len(ids) != 0 {
		t.Errorf("%d events older than 90 days", len(ids))
	}
}

func TestLookupRefuses(t *testing.T) {
	now := time.Date(2026, 3, 4, 5, 6, 0, 0, time.UTC)
	trail := lookupTrail(200, now)
	first, err := trail.Lookup(Lookup{Region: "us-east-1"}, now)
	if err != nil {
		t.Fatal(err)
	}
	for want, l := range map[string]Lookup{
		"InvalidTimeRangeException":        {Start: now, End: now.Add(-time.Second)},
		"InvalidMaxResultsException":       {MaxResults: 51},
		"InvalidLookupAttributesException": {Key: "SourceIdentity", Value: "alice-nb"},
		"InvalidNextTokenException":        {Region: "us-east-1", Start: now.Add(-time.Hour), NextToken: first.NextToken}, // of other parameters
	} {
		if _, err := trail.Lookup(l, now); err == nil || err.Code != want {
			t.Errorf("%+v: %v, want %s", l, err, want)
		}
	}
	if _, err := trail.Lookup(Lookup{NextToken: "bm9uc2Vuc2U="}, now); err == nil || err.Code != "InvalidNextTokenException" {
		t.Errorf("a made-up token: %v", err)
	}
}
