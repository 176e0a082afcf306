package intake

import (
	"os"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/evidence"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

// publicData is the environment variable with a directory that holds the trail of
// https://github.com/invictus-ir/aws_dataset: 2,900 records of a real account.
const publicData = "NBIDENTITYD_TRAIL_DATA"

// TestPublicTrail reads a real trail and links its calls by what the answers rely on:
// the access key that an AssumeRole issued, and the second in which it did. The counts
// were made by another program, before this one.
func TestPublicTrail(t *testing.T) {
	t.Parallel()
	dir := os.Getenv(publicData)
	if dir == "" {
		t.Skipf("needs the public trail: %s is its directory", publicData)
	}
	inputs, _, err := source.Find([]string{dir}, nil)
	if err != nil {
		t.Fatal(err)
	}
	read, err := Read(t.Context(), inputs, nil, Config{Workers: 2, TempDir: t.TempDir(), Bad: func(b Bad) { t.Errorf("%+v", b) }})
	if err != nil {
		t.Fatal(err)
	}
	defer read.Spool.Close()
	type start struct {
		session string // role and session name
		at      int64
	}
	byKey, byStart := map[string]*evidence.Issue{}, map[start]bool{}
	for i := range read.Evidence.Issues {
		issue := &read.Evidence.Issues[i]
		byKey[issue.Key] = issue
		byStart[start{issue.Role + "/" + issue.Session, issue.At}] = true
	}
	type counts struct{ Inputs, Records, Bad, RoleSessions, ByKey, SameSecond, WithoutKey, ByStart int }
	got := counts{Inputs: read.Stats.Inputs, Records: read.Stats.Records + read.Stats.Duplicates, Bad: read.Stats.Broken + read.Stats.Foreign + read.Stats.Failed}
	for b := range read.Spool.Blocks() {
		err := read.Spool.Reader().Read(b, func(c *calls.Call) {
			if c.Caller.Type != "AssumedRole" {
				return
			}
			got.RoleSessions++
			if issue := byKey[c.Caller.Key]; c.Caller.Key != "" && issue != nil {
				got.ByKey++
				if issue.At == c.Caller.Created {
					got.SameSecond++
				}
				return
			}
			if c.Caller.Key == "" {
				got.WithoutKey++
			}
			if byStart[start{c.Caller.Issuer + "/" + c.Caller.Session(), c.Caller.Created}] {
				got.ByStart++
			}
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	want := counts{Inputs: 55, Records: 2900, RoleSessions: 76, ByKey: 70, SameSecond: 70, WithoutKey: 6, ByStart: 6}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got): %s", diff)
	}
}
