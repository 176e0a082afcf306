package intake

import (
	"bytes"
	"compress/gzip"
	"context"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

func event(id string, second int) string {
	return fmt.Sprintf(`{"eventTime":"2026-07-01T20:43:%02dZ","eventSource":"s3.amazonaws.com","eventName":"ListBuckets","eventID":%q}`, second, id)
}

func input(name, text string) source.Input {
	return source.Input{Name: name, Size: int64(len(text)), Open: func() (io.ReadCloser, error) { return io.NopCloser(strings.NewReader(text)), nil }}
}

func gz(t *testing.T, text string) string {
	t.Helper()
	var b bytes.Buffer
	w := gzip.NewWriter(&b)
	if _, err := w.Write([]byte(text)); err != nil {
		t.Fatal(err)
	}
	if err := w.Close(); err != nil {
		t.Fatal(err)
	}
	return b.String()
}

func TestReadCountsEverything(t *testing.T) {
	t.Parallel()
	long := gz(t, `{"Records":[`+strings.Repeat(event("", 7)+",", 3000)+event("z", 7)+"]}")
	inputs := []source.Input{
		input("a", `{"Records":[`+event("1", 5)+","+event("2", 9)+`]}`),
		input("b", gz(t, event("2", 9)+"\n"+event("3", 2)+"\n"+`{"eventTime":"2026-07-01T20:43:01Z","eventSource":"x","eventName":"y","eventCategory":"Insight"}`)),
		input("c", `{"digestEndTime":"x"}`+event("4", 4)+"{oops}\n"+event("5", 5)),
		input("d", long[:len(long)/2]),
		{Name: "e", Open: func() (io.ReadCloser, error) { return nil, errors.New("permission denied") }},
		input("f", "\x1f\x8bnot gzip"),
		input("g", ""),
	}
	for workers := range 4 {
		var reports []string
		progress := new(Progress)
		trail, err := Read(t.Context(), inputs, progress, Config{Workers: workers, TempDir: t.TempDir(), Bad: func(b Bad) {
			reports = append(reports, b.Input)
		}})
		if err != nil {
			t.Fatal(err)
		}
		var ids []string
		cut := 0
		for b := range trail.Spool.Blocks() {
			if err := trail.Spool.Reader().Read(b, func(c *calls.Call) {
				if c.ID == "" {
					cut++
					return
				}
				ids = append(ids, strings.Clone(c.ID))
			}); err != nil {
				t.Fatal(err)
			}
		}
		slices.Sort(ids)
		slices.Sort(reports)
		if diff := cmp.Diff([]string{"1", "2", "3", "4", "5"}, ids); diff != "" {
			t.Errorf("calls (-want +got):\n%s", diff)
		}
		if cut == 0 || cut >= 3000 {
			t.Errorf("%d records before the cut of a gzip file", cut)
		}
		// The cut file may be reported twice: for the record it ends in, and itself.
		if diff := cmp.Diff([]string{"c", "d", "e", "f"}, slices.Compact(reports)); diff != "" {
			t.Errorf("reported inputs (-want +got):\n%s", diff)
		}
		got := trail.Stats
		got.Bytes, got.Records, got.Broken = 0, got.Records-cut, 0
		want := Stats{Inputs: 7, Records: 5, Duplicates: 1, Insights: 1, Foreign: 1, Failed: 3, First: 1782938582, Last: 1782938589}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("stats (-want +got):\n%s", diff)
		}
		if progress.Records.Load() != int64(trail.Stats.Records) || progress.Plain.Load() != trail.Stats.Bytes {
			t.Errorf("progress: %d records, %d bytes; stats %+v", progress.Records.Load(), progress.Plain.Load(), trail.Stats)
		}
		if err := trail.Spool.Close(); err != nil {
			t.Error(err)
		}
	}
}

func TestReadEndsWithTheContext(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	endless := source.Input{Name: "endless", Open: func() (io.ReadCloser, error) {
		return io.NopCloser(&repeat{text: []byte(event("", 1) + "\n"), then: cancel}), nil
	}}
	if _, err := Read(ctx, []source.Input{endless}, nil, Config{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestInputsAreNotBlamedForTheContext has inputs that are fetched, and fail because the
// run is over.
func TestInputsAreNotBlamedForTheContext(t *testing.T) {
	t.Parallel()
	for name, begun := range map[string]bool{"opening": false, "reading": true} {
		ctx, cancel := context.WithCancel(t.Context())
		opened := 0
		fetched := source.Input{Name: "s3", Open: func() (io.ReadCloser, error) {
			opened++
			cancel()
			if begun {
				return io.NopCloser(io.MultiReader(strings.NewReader(event("", 1)), iotest.ErrReader(ctx.Err()))), nil
			}
			return nil, ctx.Err()
		}}
		reports := 0
		_, err := Read(ctx, []source.Input{fetched, fetched, fetched}, nil, Config{Bad: func(Bad) { reports++ }})
		if !errors.Is(err, context.Canceled) || opened != 1 || reports != 0 {
			t.Errorf("%s: error %v, %d inputs opened, %d reports", name, err, opened, reports)
		}
	}
}

// repeat gives its text for ever and calls then on the way.
type repeat struct {
	text []byte
	at   int
	then func()
}

func (r *repeat) Read(p []byte) (int, error) {
	n := copy(p, r.text[r.at%len(r.text):])
	if r.at += n; r.at > 1<<20 {
		r.then()
	}
	return n, nil
}
