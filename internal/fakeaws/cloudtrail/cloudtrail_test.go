package cloudtrail

import (
	"bytes"
	"compress/gzip"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestTimes(t *testing.T) {
	at := time.Date(2019, 10, 2, 23, 12, 29, 999, time.FixedZone("", 3600))
	if got, want := Expiration(at), "Oct 2, 2019, 10:12:29 PM"; got != want {
		t.Errorf("expiration %q, want %q", got, want)
	}
	if got, want := Time(at), "2019-10-02T22:12:29Z"; got != want {
		t.Errorf("time %q, want %q", got, want)
	}
}

// TestOrderOfKeys compares with the order of real records.
func TestOrderOfKeys(t *testing.T) {
	r := Record{ErrorCode: "x", ErrorMessage: "x", AdditionalEventData: 1, Resources: []Resource{{}}, SharedEventID: "x", TLSDetails: &TLSDetails{}}
	line, err := r.Line()
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	d := json.NewDecoder(bytes.NewReader(line))
	for depth := 0; ; {
		token, err := d.Token()
		if err != nil {
			break
		}
		switch v := token.(type) {
		case json.Delim:
			if v == '{' || v == '[' {
				depth++
			} else {
				depth--
			}
		case string:
			if depth == 1 && bytes.HasPrefix(bytes.TrimLeft(line[d.InputOffset():], " "), []byte(":")) {
				keys = append(keys, v)
			}
		}
	}
	want := strings.Fields("eventVersion userIdentity eventTime eventSource eventName awsRegion sourceIPAddress userAgent errorCode errorMessage requestParameters responseElements additionalEventData requestID eventID readOnly resources eventType managementEvent recipientAccountId sharedEventID eventCategory tlsDetails")
	if diff := cmp.Diff(want, keys); diff != "" {
		t.Error(diff)
	}
	if !bytes.Contains(line, []byte(`"requestParameters":null,"responseElements":null`)) {
		t.Error("a denied call's parameters are not null")
	}
}

func TestFlush(t *testing.T) {
	var lines bytes.Buffer
	trail := New("111122223333", &lines)
	trail.Add(Record{EventID: "1", AWSRegion: "us-east-1"})
	trail.Add(Record{EventID: "2", AWSRegion: "eu-west-1"})
	now := time.Date(2026, 3, 4, 5, 6, 7, 0, time.UTC)
	dir := t.TempDir()
	files, err := trail.Flush(dir, now)
	if err != nil || len(files) != 2 {
		t.Fatalf("%v, %v", files, err)
	}
	name := regexp.MustCompile(`^AWSLogs/111122223333/CloudTrail/us-east-1/2026/03/04/111122223333_CloudTrail_us-east-1_20260304T0506Z_[A-Za-z0-9]{16}\.json\.gz$`)
	relative, err := filepath.Rel(dir, files[0])
	if err != nil || !name.MatchString(relative) {
		t.Errorf("file name %s", relative)
	}
	f, err := os.Open(files[0])
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	var content struct{ Records []Record }
	if err := json.NewDecoder(z).Decode(&content); err != nil || len(content.Records) != 1 || content.Records[0].EventID != "1" {
		t.Errorf("%+v, %v", content, err)
	}
	if files, err := trail.Flush(dir, now); err != nil || len(files) != 0 {
		t.Errorf("flushed again: %v, %v", files, err)
	}
	if n := strings.Count(lines.String(), "\n"); n != 2 {
		t.Errorf("%d lines, want 2", n)
	}
}

func TestAFailedFlushIsTriedAgain(t *testing.T) {
	trail := New("111122223333", nil)
	trail.Add(Record{AWSRegion: "us-east-1"})
	blocked := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(blocked, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := trail.Flush(blocked, time.Now()); err == nil {
		t.Fatal("delivered below a file")
	}
	if files, err := trail.Flush(t.TempDir(), time.Now()); err != nil || len(files) != 1 {
		t.Errorf("second try: %v, %v", files, err)
	}
}

type broken struct{}

func (broken) Write([]byte) (int, error) { return 0, errors.New("disk full") }

func TestABrokenLineWriterLosesNoRecord(t *testing.T) {
	trail := New("111122223333", broken{})
	trail.Add(Record{EventID: "1", AWSRegion: "us-east-1"})
	trail.Add(Record{EventID: "2", AWSRegion: "us-east-1"})
	if trail.Err() == nil || len(trail.Since(0)) != 2 {
		t.Errorf("%v, %d records", trail.Err(), len(trail.Since(0)))
	}
	if files, err := trail.Flush(t.TempDir(), time.Now()); err == nil || len(files) != 1 {
		t.Errorf("the flush hides the failure: %v, %v", files, err)
	}
}

func TestSince(t *testing.T) {
	trail := New("111122223333", nil)
	var group sync.WaitGroup
	for range 8 {
		group.Go(func() {
			for range 100 {
				trail.Add(Record{})
				_ = trail.Since(10)
			}
		})
	}
	group.Wait()
	for n, want := range map[int]int{-5: 800, 0: 800, 799: 1, 800: 0, 9999: 0} {
		if got := len(trail.Since(n)); got != want {
			t.Errorf("since %d: %d records, want %d", n, got, want)
		}
	}
}
