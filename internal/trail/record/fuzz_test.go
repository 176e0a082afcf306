package record

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"testing/iotest"
	"time"

	"github.com/google/go-cmp/cmp"
)

// paths are the fields that are taken, and how to get at them in a Record.
var paths = map[string]func(r *Record) []byte{
	"eventTime":             func(r *Record) []byte { return r.EventTime },
	"eventSource":           func(r *Record) []byte { return r.EventSource },
	"eventName":             func(r *Record) []byte { return r.EventName },
	"eventID":               func(r *Record) []byte { return r.EventID },
	"sharedEventID":         func(r *Record) []byte { return r.SharedEventID },
	"eventType":             func(r *Record) []byte { return r.EventType },
	"eventCategory":         func(r *Record) []byte { return r.EventCategory },
	"awsRegion":             func(r *Record) []byte { return r.AWSRegion },
	"sourceIPAddress":       func(r *Record) []byte { return r.SourceIPAddress },
	"userAgent":             func(r *Record) []byte { return r.UserAgent },
	"errorCode":             func(r *Record) []byte { return r.ErrorCode },
	"errorMessage":          func(r *Record) []byte { return r.ErrorMessage },
	"recipientAccountId":    func(r *Record) []byte { return r.RecipientAccountID },
	"requestParameters{}":   func(r *Record) []byte { return r.RequestParameters },
	"responseElements{}":    func(r *Record) []byte { return r.ResponseElements },
	"additionalEventData{}": func(r *Record) []byte { return r.AdditionalEventData },
	"resources{}":           func(r *Record) []byte { return r.Resources },

	"userIdentity type":                func(r *Record) []byte { return r.Identity.Type },
	"userIdentity principalId":         func(r *Record) []byte { return r.Identity.PrincipalID },
	"userIdentity arn":                 func(r *Record) []byte { return r.Identity.ARN },
	"userIdentity accountId":           func(r *Record) []byte { return r.Identity.AccountID },
	"userIdentity accessKeyId":         func(r *Record) []byte { return r.Identity.AccessKeyID },
	"userIdentity userName":            func(r *Record) []byte { return r.Identity.UserName },
	"userIdentity invokedBy":           func(r *Record) []byte { return r.Identity.InvokedBy },
	"userIdentity onBehalfOf userId":   func(r *Record) []byte { return r.Identity.OnBehalfOf },
	"userIdentity inScopeOf sourceArn": func(r *Record) []byte { return r.Identity.InScopeOf },

	"userIdentity sessionContext sourceIdentity":          func(r *Record) []byte { return r.Identity.Session.SourceIdentity },
	"userIdentity sessionContext ec2RoleDelivery":         func(r *Record) []byte { return r.Identity.Session.EC2RoleDelivery },
	"userIdentity sessionContext attributes creationDate": func(r *Record) []byte { return r.Identity.Session.CreationDate },
	"userIdentity sessionContext sessionIssuer arn":       func(r *Record) []byte { return r.Identity.Session.IssuerARN },
	"userIdentity sessionContext sessionIssuer type":      func(r *Record) []byte { return r.Identity.Session.IssuerType },
}

// oracle takes the same fields with encoding/json.
func oracle(text []byte) map[string]string {
	fields := map[string]string{}
	for path := range paths {
		raw := json.RawMessage(text)
		name, wantRaw := strings.CutSuffix(path, "{}")
		for key := range strings.FieldsSeq(name) {
			var object map[string]json.RawMessage
			if json.Unmarshal(raw, &object) != nil {
				raw = nil
				break
			}
			raw = object[key]
		}
		var value *string
		switch {
		case raw == nil || string(raw) == "null":
		case wantRaw:
			fields[path] = string(raw)
		case json.Unmarshal(raw, &value) == nil:
			fields[path] = *value
		}
	}
	return fields
}

func taken(r *Record) map[string]string {
	fields := map[string]string{}
	for path, of := range paths {
		if v := of(r); v != nil {
			fields[path] = string(v)
		}
	}
	return fields
}

var seeds = []string{
	one(0),
	`{}`, `{ }`, `{"eventName":"a","eventName":null,"eventID":1,"userIdentity":"x"}`,
	`{"event\u004eame":"a\ud83d\ude00\ud800x\n","userIdentity":{"type":"\xff"},"userIdentity":{"arn":"b"}}`,
	"{\"eventName\":\"\",\"0\x88\":0}", `{"eventName":"\\u0000","eventSource":""}`,
	`{"userIdentity":{"sessionContext":{"sessionIssuer":{},"webIdFederationData":{},"attributes":{"creationDate":"x"},"attributes":null}}}`,
	`{"requestParameters":"{\"a\":1}","responseElements":null,"resources":[-0.5e+10,true,false,null,[]]}`,
	`{"a":01}`, `{"a":1.}`, `{"a":-}`, `{"a":1e}`, `{"a":tru}`, `{"a":"\x"}`, `{"a":"\u12g4"}`, "{\"a\":\"\x01\"}", `{"a":1,}`, `{,}`, `{"a" 1}`,
	`{"a":"` + strings.Repeat("x", 100) + `é","b":[` + strings.Repeat("[", 50) + strings.Repeat("]", 50) + `]}`,
}

// FuzzParse compares the parser with encoding/json: what is accepted, and each field.
func FuzzParse(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		if len(text) == 0 || text[0] != '{' {
			return
		}
		var p parser
		p.reset(text)
		end := p.parse(0)
		if p.items > 0 {
			return // a container; FuzzReader reads it
		}
		ok := end >= 0 && p.space(end) == len(text)
		if valid := json.Valid(text); ok != valid {
			t.Fatalf("accepted %t, encoding/json %t (%s at %d)", ok, valid, p.fault, p.at)
		}
		if !ok {
			return
		}
		if diff := cmp.Diff(oracle(text), taken(&p.rec)); diff != "" {
			t.Fatalf("(-encoding/json +got):\n%s", diff)
		}
	})
}

// FuzzReader puts anything between sound records, and reads it in one piece and in
// pieces: no panic, the same result, and the record behind it is not lost.
func FuzzReader(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed))
	}
	f.Add([]byte(`{"Records":[`))
	f.Add([]byte(`{"Events":[{"CloudTrailEvent":"{}"}],"x":`))
	f.Add([]byte(`{"Events":[{"CloudTrailEven":"{}"}]`)) // not closed
	f.Add([]byte("2026-07-01T20:43:34Z "))
	f.Fuzz(func(t *testing.T, junk []byte) {
		text := append(append([]byte(one(0)+"\n"), junk...), "\n"+one(2)+"\n"...)
		whole := readAll(t, bytes.NewReader(text))
		if diff := cmp.Diff(whole, readAll(t, iotest.OneByteReader(bytes.NewReader(text)))); diff != "" {
			t.Fatalf("in one piece and in pieces (-whole +pieces):\n%s", diff)
		}
		last := ""
		if n := len(whole.IDs); n > 0 {
			last = whole.IDs[n-1]
		}
		// A key without its value makes a value of what follows, for any reader.
		// Whatever else the junk opens, nothing behind the record closes it.
		isValue := bytes.HasSuffix(bytes.TrimSpace(junk), []byte(":"))
		if last != "e-2" && (!isValue || len(whole.Bad) == 0) {
			t.Fatalf("the last record is lost: read %q, %v", whole.IDs, whole.Bad)
		}
	})
}

func FuzzValues(f *testing.F) {
	for _, seed := range seeds {
		f.Add([]byte(seed), "userIdentity", "type")
	}
	f.Fuzz(func(t *testing.T, raw []byte, first, second string) {
		String(raw, first, second)
		for range Elements(raw) {
		}
		var object map[string]json.RawMessage
		if json.Unmarshal(raw, &object) != nil || object == nil {
			return
		}
		for key, value := range Fields(raw) {
			if !json.Valid(value) {
				t.Fatalf("key %q: %q is not JSON", key, value)
			}
			if want, ok := object[string(key)]; !ok {
				t.Fatalf("key %q is not one of encoding/json's (%s)", key, want)
			}
		}
	})
}

// cpuTime is what this process has used: on a shared machine elapsed time says
// little.
func cpuTime(b *testing.B) time.Duration {
	var use syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &use); err != nil {
		b.Fatal(err)
	}
	return time.Duration(use.Utime.Nano() + use.Stime.Nano())
}

func benchmarkText(b *testing.B) []byte {
	if text := invictusText(b); text != nil {
		return text
	}
	return []byte(`{"Records":[` + strings.Repeat(one(1)+",", 9999) + one(2) + `]}`)
}

func BenchmarkReader(b *testing.B) {
	text := benchmarkText(b)
	b.SetBytes(int64(len(text)))
	b.ReportAllocs()
	r, before := NewReader(nil), cpuTime(b)
	for b.Loop() {
		r.Reset(bytes.NewReader(text))
		for {
			if _, err := r.Next(); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(len(text)*b.N)/1e6/(cpuTime(b)-before).Seconds(), "MB/cpu-s")
}

// BenchmarkEncodingJSON decodes the same fields the usual way, for comparison.
func BenchmarkEncodingJSON(b *testing.B) {
	text := benchmarkText(b)
	b.SetBytes(int64(len(text)))
	before := cpuTime(b)
	for b.Loop() {
		for d := json.NewDecoder(bytes.NewReader(text)); ; {
			var file struct {
				Records []struct {
					EventTime, EventSource, EventName, EventID, SharedEventID string
					EventType, EventCategory, AWSRegion, SourceIPAddress      string
					UserAgent, ErrorCode, ErrorMessage, RecipientAccountID    string
					RequestParameters, ResponseElements, AdditionalEventData  json.RawMessage
					Resources                                                 json.RawMessage
					UserIdentity                                              struct {
						Type, PrincipalID, ARN, AccountID, AccessKeyID, UserName, InvokedBy string
						SessionContext                                                      struct {
							SourceIdentity, EC2RoleDelivery string
							Attributes                      struct{ CreationDate string }
							SessionIssuer                   struct{ ARN, Type string }
						}
					}
				}
			}
			if err := d.Decode(&file); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				b.Fatal(err)
			}
		}
	}
	b.ReportMetric(float64(len(text)*b.N)/1e6/(cpuTime(b)-before).Seconds(), "MB/cpu-s")
}
