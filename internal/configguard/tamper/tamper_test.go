package tamper

import (
	"testing"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// A program that was found and switched off is not told of for ever, and three
// times in a year make no rival.
func TestRivalIsForgotten(t *testing.T) {
	b := Book{Log: zap.NewNop()}
	now := time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)
	write := func(after time.Duration) {
		now = now.Add(after)
		b.Quiet(now) // as every look does
		b.Note(now, "the keys do not bind", safefile.Version{}, []byte("[default]\n"))
		b.Repaired()
	}
	for range rivalAt {
		write(24 * time.Hour)
	}
	if b.Rival == "" {
		t.Error("once a day is not noticed")
	}
	b.Quiet(now.Add(rivalGone - time.Second))
	if b.Rival == "" {
		t.Error("forgotten too early")
	}
	b.Quiet(now.Add(rivalGone))
	if b.Rival != "" {
		t.Errorf("not forgotten: %s", b.Rival)
	}
	for range 2 * rivalAt {
		write(2 * rivalGone)
	}
	if b.Rival != "" {
		t.Errorf("rarely, and yet a rival: %s", b.Rival)
	}
}
