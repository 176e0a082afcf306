package who

import (
	"strings"
	"testing"
)

func TestAthena(t *testing.T) {
	t.Parallel()
	all := []string{"--athena", "--bucket", "s3://trail/logs", "--account", "111122223333,444455556666", "--region", "us-east-1", "--org", "o-exampleorg1"}
	tests := map[string]struct {
		args []string
		code int
		want string // in the output, or in the complaint
	}{
		"example":               {[]string{"--athena"}, Done, "LOCATION 's3://amzn-s3-demo-bucket/AWSLogs/'"},
		"organization":          {all, Done, "LOCATION 's3://trail/logs/AWSLogs/o-exampleorg1/'"},
		"accounts":              {all, Done, "'projection.account.values'='111122223333,444455556666'"},
		"queries":               {all, Done, "CREATE TABLE who_answers"},
		"no region":             {all[:5], Usage, "give --bucket, --account and --region"},
		"without --athena":      {all[1:], Usage, "go with --athena"},
		"a path":                {append([]string{"-"}, all...), Usage, "reads nothing"},
		"another flag":          {append([]string{"--since", "7d"}, all...), Usage, "not with --since"},
		"a template":            {[]string{"--athena", "--template", "{kind}+{name}"}, Usage, "not with --template"},
		"a bucket with a quote": {[]string{"--athena", "--bucket", "s3://x'y/z", "--account", "111122223333", "--region", "us-east-1"}, Usage, "bucket"},
		"an empty account":      {[]string{"--athena", "--bucket", "s3://xyz", "--account", "111122223333,", "--region", "us-east-1"}, Usage, "12 digits"},
	}
	for label, tt := range tests {
		t.Run(label, func(t *testing.T) {
			t.Parallel()
			code, out, errs := ask(t, "", tt.args...)
			text, silent := out, errs
			if tt.code != Done {
				text, silent = errs, out
			}
			if code != tt.code || !strings.Contains(text, tt.want) || silent != "" {
				t.Errorf("exit code %d, want %d and %q\n%.400s\n%.400s", code, tt.code, tt.want, out, errs)
			}
		})
	}
}
