package athena

import (
	"bytes"
	"flag"
	"os"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

var update = flag.Bool("update", false, "write the golden files")

func TestWrite(t *testing.T) {
	t.Parallel()
	tests := map[string]Trail{
		"example.sql": Example(),
		"organization.sql": {
			Bucket: "s3://trail-example/logs/", Accounts: []string{"111122223333", "444455556666"},
			Regions: []string{"us-east-1", "us-gov-west-1"}, Organization: "o-exampleorg1",
		},
	}
	for file, trail := range tests {
		t.Run(file, func(t *testing.T) {
			t.Parallel()
			var got bytes.Buffer
			if err := Write(&got, trail); err != nil {
				t.Fatal(err)
			}
			golden := "testdata/" + file
			if *update {
				if err := os.WriteFile(golden, got.Bytes(), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			want, err := os.ReadFile(golden)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(string(want), got.String()); diff != "" {
				t.Errorf("run with -update if meant (-want +got):\n%s", diff)
			}
			table, err := trail.table()
			if err != nil || !strings.Contains(table, "sourceidentity:STRING") || strings.Contains(table, "//AWSLogs") {
				t.Errorf("table: %v\n%s", err, table)
			}
		})
	}
}

func TestCheck(t *testing.T) {
	t.Parallel()
	with := func(change func(*Trail)) Trail {
		trail := Example()
		change(&trail)
		return trail
	}
	tests := map[string]struct {
		trail Trail
		want  string
	}{
		"a quote in the prefix":      {with(func(t *Trail) { t.Bucket = "s3://bucket/a'; DROP TABLE x" }), "bucket"},
		"a dollar in the prefix":     {with(func(t *Trail) { t.Bucket = "s3://bucket/${account}" }), "bucket"},
		"a line break in the bucket": {with(func(t *Trail) { t.Bucket = "s3://bucket\n" }), "bucket"},
		"no bucket":                  {with(func(t *Trail) { t.Bucket = "" }), "bucket"},
		"AWSLogs given":              {with(func(t *Trail) { t.Bucket = "s3://bucket/x/AWSLogs" }), "leave out AWSLogs"},
		"a short account":            {with(func(t *Trail) { t.Accounts = []string{"1111"} }), "12 digits"},
		"a comma in an account":      {with(func(t *Trail) { t.Accounts = []string{"111122223333,x"} }), "12 digits"},
		"no account":                 {with(func(t *Trail) { t.Accounts = nil }), "at least one"},
		"a region with a quote":      {with(func(t *Trail) { t.Regions = []string{"us-east-1'"} }), "us-east-1"},
		"no region":                  {with(func(t *Trail) { t.Regions = nil }), "at least one"},
		"an organization by name":    {with(func(t *Trail) { t.Organization = "Example" }), "organization"},
	}
	for label, tt := range tests {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			var out bytes.Buffer
			if err := Write(&out, tt.trail); err == nil || !strings.Contains(err.Error(), tt.want) || out.Len() > 0 || strings.Contains(err.Error(), "\n") {
				t.Errorf("error %v, %d bytes written; want one about %q", err, out.Len(), tt.want)
			}
		})
	}
}

// A setting that spells one of the table's placeholders is taken as it is.
func TestPlaceholderInSetting(t *testing.T) {
	t.Parallel()
	trail := Example()
	trail.Bucket = "s3://bucket/REGIONS/ROOT"
	table, err := trail.table()
	if err != nil || !strings.Contains(table, "LOCATION 's3://bucket/REGIONS/ROOT/AWSLogs/'") {
		t.Errorf("%v\n%s", err, table)
	}
}
