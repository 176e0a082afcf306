package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestFindSecrets(t *testing.T) {
	l := &Lab{Dir: t.TempDir()}
	for name, content := range map[string]string{
		"plain.log":         "nothing here\n",
		"a/b/nested.log":    "x=tokenEXAMPLE1;",
		"a/.hidden":         "both keyEXAMPLE2 and tokenEXAMPLE1",
		"a/half.log":        "tokenEXAMPL",
		"a/b/c/binary.data": "\x00\xff\x00keyEXAMPLE2\x00",
	} {
		if _, err := l.writeFile(name, content); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.Symlink("plain.log", filepath.Join(l.Dir, "link")); err != nil {
		t.Fatal(err)
	}
	found, files, err := l.FindSecrets([]string{"tokenEXAMPLE1", "keyEXAMPLE2"})
	if err != nil {
		t.Fatal(err)
	}
	if files != 5 {
		t.Errorf("%d files were read, want 5", files)
	}
	counts := map[string]int{}
	for _, f := range found {
		name, _, _ := strings.Cut(strings.TrimPrefix(f, l.Dir+"/"), ":")
		counts[name]++
		if strings.Contains(f, "tokenEXAMPLE1") || strings.Contains(f, "keyEXAMPLE2") {
			t.Errorf("the find repeats the secret: %s", f)
		}
	}
	if len(found) != 4 || counts["a/b/nested.log"] != 1 || counts["a/.hidden"] != 2 || counts["a/b/c/binary.data"] != 1 {
		t.Errorf("found %v", found)
	}
}

func TestRecordByClient(t *testing.T) {
	tests := []struct {
		name, kind, agent string
		want              bool
	}{
		{"a notebook's program", "AssumedRole", "Boto3/1.44.5 md/Botocore#1.44.5", true},
		{"the daemon", "AssumedRole", "aws-sdk-go-v2/1.47.7 app/nbidentityd", false},
		{"SageMaker", "AWSService", "", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			r := Record{UserAgent: tt.agent}
			r.UserIdentity.Type = tt.kind
			if got := r.ByClient(); got != tt.want {
				t.Errorf("ByClient = %v", got)
			}
		})
	}
}
