package report

import (
	"context"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestExamine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
		defer cancel()
		release := make(chan struct{})
		began := time.Now()
		r := Examine(ctx, []Check{
			{"stubborn", func(_ context.Context, s *Sheet) error {
				<-release // as a hung file system
				s.Find(Finding{ID: "late"})
				return nil
			}},
			{"well-behaved", func(ctx context.Context, s *Sheet) error {
				s.Find(Finding{ID: "seen", Saw: "a\x1b[2J\nb"})
				s.Find(Finding{ID: "seen", Saw: "again"})
				<-ctx.Done()
				return errors.New("no answer")
			}},
			{"quick", func(_ context.Context, s *Sheet) error {
				s.Note("n", "note %d", 1)
				s.Note("n", "note %d", 1)
				return nil
			}},
			{"idle", func(context.Context, *Sheet) error { return ErrNotApplicable }},
		})
		if took := time.Since(began); took > 6*time.Second {
			t.Errorf("it took %s", took)
		}
		close(release)
		synctest.Wait()
		want := Report{
			Findings: []Finding{{ID: "seen", Saw: "a [2J b"}},
			Notes:    []Note{{"n", "note 1"}},
			Gaps:     []Gap{{"stubborn", errTooLate.Error()}, {"well-behaved", "no answer"}},
			Checks:   []string{"quick"},
		}
		if diff := cmp.Diff(want, r); diff != "" {
			t.Errorf("report (-want +got):\n%s", diff)
		}
	})
}

func TestText(t *testing.T) {
	r := Report{
		Subject: "notebook instance alice-nb",
		Findings: []Finding{{ID: "trust_name", Subject: "arn:aws:iam::111122223333:role/R", Saw: strings.Repeat("word ", 30), Means: "it fails",
			Commands: []string{"aws iam x '{\n \"a\": 1\n}'", "true"}, Hint: "be careful"}},
		Notes:  []Note{{"n", "a note"}},
		Gaps:   []Gap{{"one", "because"}, {"two", "because"}},
		Checks: []string{"STS", "clock"},
	}
	const want = `1 thing is wrong with notebook instance alice-nb

1. trust_name  (arn:aws:iam::111122223333:role/R)
   seen   word word word word word word word word word word word word word word word word word word
          word word word word word word word word word word word word
   means  it fails
   do     aws iam x '{
           "a": 1
          }'
          true
   hint   be careful

notes
  - a note

could not be checked
  - one, two: because

checked: STS, clock
`
	var b strings.Builder
	if err := r.WriteText(&b); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, b.String()); diff != "" {
		t.Errorf("text (-want +got):\n%s", diff)
	}
	accepted := r.Without([]string{"trust_name"})
	if len(accepted.Findings) != 0 || len(accepted.Notes) != 2 || accepted.Verdict() != "nothing wrong found with notebook instance alice-nb" {
		t.Errorf("after it was accepted: %+v", accepted)
	}
	if got := (Report{}).Verdict(); got != "nothing could be checked on this machine" {
		t.Errorf("verdict %q", got)
	}
}

func TestJSON(t *testing.T) {
	got, err := json.Marshal(Report{Version: "1", Subject: "x", Findings: []Finding{{ID: "a"}}})
	if err != nil {
		t.Fatal(err)
	}
	const want = `{"version":"1","subject":"x","findings":[{"id":"a","saw":"","means":"","commands":[]}],"notes":[],"gaps":[],"checks":[]}`
	if string(got) != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}
