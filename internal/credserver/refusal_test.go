package credserver

import (
	"strings"
	"testing"
)

func TestOneLine(t *testing.T) {
	for in, want := range map[string]string{
		"": "", " a\r\nb\tc ": "a b c", "\x1b[0m\x00\x7f": "[0m", "é\u202e": "??", "\xff": "?",
	} {
		if got := oneLine(in); got != want {
			t.Errorf("oneLine(%q) = %q, want %q", in, got, want)
		}
	}
	if got := oneLine(strings.Repeat("é", 10_000)); len(got) > maxMessage {
		t.Errorf("%d bytes", len(got))
	}
}
