package main

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
)

const sample = `{"Version":1,"AccessKeyId":"ASIATESTEXAMPLE","SecretAccessKey":"s/+","SessionToken":"t==","Expiration":"2026-01-02T03:04:05Z","AccountId":"111122223333"}` + "\n"

func ok(body string, header ...string) string {
	text := "HTTP/1.1 200 OK\r\n"
	for _, h := range header {
		text += h + "\r\n"
	}
	return text + fmt.Sprintf("Content-Length: %d\r\n\r\n%s", len(body), body)
}

func TestParse(t *testing.T) {
	tests := []struct {
		name, in string
		want     answer
		err      error
	}{
		{"credentials", ok(sample, "Content-Type: application/json"), answer{status: 200, body: []byte(sample)}, nil},
		{"no reason", "HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", answer{status: 200, body: []byte{}}, nil},
		{"refusal", "HTTP/1.1 503 Service Unavailable\r\nNBIDENTITY-error:  throttled\r\nNbidentity-Message: a: b\r\nContent-Length: 2\r\n\r\n{}",
			answer{status: 503, code: "throttled", message: "a: b", body: []byte("{}")}, nil},
		{"state", ok("x", "Nbidentity-State: ok"), answer{status: 200, state: "ok", body: []byte("x")}, nil},

		{"nothing", "", answer{}, errShort},
		{"half a status line", "HTTP/1", answer{}, errShort},
		{"half a header", "HTTP/1.1 200 OK\r\nContent-Le", answer{}, errShort},
		{"no body yet", strings.TrimSuffix(ok(sample), sample), answer{}, errShort},
		{"body lacks a byte", strings.TrimSuffix(ok(sample), "\n"), answer{}, errShort},

		{"more than was announced", ok(sample) + "x", answer{}, errFormat},
		{"second answer", ok(sample) + ok(sample), answer{}, errFormat},
		{"HTTP/1.0", strings.Replace(ok(sample), "1.1", "1.0", 1), answer{}, errFormat},
		{"not HTTP", "hello\r\n\r\n", answer{}, errFormat},
		{"empty line first", "\r\n\r\n", answer{}, errFormat},
		{"informational", "HTTP/1.1 100 Continue\r\n\r\n" + ok(sample), answer{}, errFormat},
		{"status of letters", "HTTP/1.1 2x0 OK\r\nContent-Length: 0\r\n\r\n", answer{}, errFormat},
		{"long status", "HTTP/1.1 2000 OK\r\nContent-Length: 0\r\n\r\n", answer{}, errFormat},
		{"no length", "HTTP/1.1 200 OK\r\n\r\n" + sample, answer{}, errFormat},
		{"two lengths", ok("", "Content-Length: 0"), answer{}, errFormat},
		{"negative length", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n", answer{}, errFormat},
		{"empty length", "HTTP/1.1 200 OK\r\nContent-Length: \r\n\r\n", answer{}, errFormat},
		{"chunked", ok(sample, "Transfer-Encoding: chunked"), answer{}, errFormat},
		{"line without colon", ok(sample, "x"), answer{}, errFormat},
		{"folded line", ok(sample, "A: b", " c: d"), answer{}, errFormat},
		{"nameless field", ok(sample, ": b"), answer{}, errFormat},

		{"large length", "HTTP/1.1 200 OK\r\nContent-Length: 8193\r\n\r\n", answer{}, errLarge},
		{"absurd length", "HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999999999\r\n\r\n", answer{}, errLarge},
		{"endless header", "HTTP/1.1 200 OK\r\n" + strings.Repeat("a", maxHeader), answer{}, errLarge},
		{"large header", ok(sample, "A: "+strings.Repeat("a", maxHeader)), answer{}, errLarge},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse([]byte(tt.in), maxCredentials)
			if !errors.Is(err, tt.err) {
				t.Errorf("error %v, want %v", err, tt.err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(answer{})); diff != "" {
				t.Errorf("answer (-want +got):\n%s", diff)
			}
		})
	}
}

func TestIsCredentials(t *testing.T) {
	const shortest = `{"Version":1,}` + "\n"
	fill := strings.Repeat("x", maxCredentials-len(shortest))
	for body, want := range map[string]bool{
		sample:                                 true,
		`{"Version":1,` + fill + "}\n":         true,
		`{"Version":1,` + fill + "x}\n":        false,
		"":                                     false,
		"}\n":                                  false,
		`{"Version":1,`:                        false,
		`{"Version":1}` + "\n":                 false,
		strings.TrimSuffix(sample, "\n"):       false,
		sample + "\n":                          false,
		sample + sample:                        false,
		" " + sample:                           false,
		strings.Replace(sample, "1", "2", 1):   false,
		strings.Replace(sample, "1", `"1"`, 1): false,
		strings.Replace(sample, "t==", "a\x00b", 1):                             false,
		strings.Replace(sample, "t==", "a\xffb", 1):                             false,
		strings.Replace(sample, "t==", `"},{"`, 1):                              false,
		strings.Replace(sample, `{"Version":1,`, `{"Code":"x","Version":1,`, 1): false,
	} {
		if got := isCredentials([]byte(body)); got != want {
			t.Errorf("isCredentials(%.60q, %d bytes) = %v", body, len(body), got)
		}
	}
}

func TestPrintable(t *testing.T) {
	for in, want := range map[string]string{
		"plain\nlines\n": "plain\nlines\n", "é …": "é …",
		"\x1b[2J\r\t\x00\x7f": "?[2J????", "\u009b31m": "??31m", "\u0080\u00a0": "??\u00a0",
	} {
		if got := string(printable([]byte(in))); got != want {
			t.Errorf("printable(%q) = %q, want %q", in, got, want)
		}
	}
	if got := oneLine("a\x1b\n\xffé"+strings.Repeat("x", 500), 20); got != "a?????xxxxxxxxxxxxxx" {
		t.Errorf("oneLine = %q", got)
	}
}

func TestParseArgs(t *testing.T) {
	tests := []struct {
		args string
		want call
		ok   bool
	}{
		{"credentials", call{command: "credentials", socket: defaultSocket}, true},
		{"--socket /x credentials", call{command: "credentials", socket: "/x"}, true},
		{"--socket=/x status --json", call{command: "status", socket: "/x", json: true}, true},
		{"status", call{command: "status", socket: defaultSocket}, true},
		{"--version", call{command: "version"}, true},
		{"status -h", call{command: "help"}, true},
		{"", call{}, false},
		{"--socket", call{}, false},
		{"--socket= status", call{}, false},
		{"--socket @abstract status", call{}, false},
		{"--json credentials", call{}, false},
		{"credentials --json", call{}, false},
		{"credentials status", call{}, false},
		{"credentials x", call{}, false},
		{"Credentials", call{}, false},
	}
	for _, tt := range tests {
		got, problem := parseArgs(strings.Fields(tt.args))
		if (problem == "") != tt.ok || tt.ok && got != tt.want {
			t.Errorf("parseArgs(%q) = %+v, %q", tt.args, got, problem)
		}
	}
}

// A whole answer is found at its last byte and never before, and nothing that
// parse accepts as a credential can upset the SDK that reads it.
func FuzzParse(f *testing.F) {
	f.Add([]byte(ok(sample)))
	f.Add([]byte("HTTP/1.1 503 X\r\nNbidentity-Error: busy\r\nNbidentity-Message: m\r\nContent-Length: 2\r\n\r\n{}"))
	f.Add([]byte("HTTP/1.1 200\r\n\r\n"))
	f.Add([]byte("\r\n\r\n"))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := bytes.Clone(b)
		a, err := parse(b, maxCredentials)
		if !bytes.Equal(b, before) {
			t.Fatal("parse changed its input")
		}
		if err != nil {
			return
		}
		if len(a.body) > maxCredentials || !bytes.HasSuffix(b, a.body) {
			t.Fatalf("body of %d bytes", len(a.body))
		}
		for i := range b {
			if _, err := parse(b[:i], maxCredentials); err == nil {
				t.Fatalf("complete after %d of %d bytes", i, len(b))
			}
		}
		if isCredentials(a.body) && (bytes.Count(a.body, []byte("\n")) != 1 || bytes.Count(a.body, []byte("{")) != 1 || !utf8.Valid(a.body)) {
			t.Fatalf("accepted %q", a.body)
		}
		if s := oneLine(a.message, 300); strings.ContainsAny(s, "\r\n\x1b") || len(s) > 300 {
			t.Fatalf("message %q", s)
		}
	})
}
