// Package lifecycle holds the scripts that bring nbidentityd onto a notebook at
// its start, and puts an administrator's choices into them.
//
// Each script stands alone: SageMaker stores its text, at most [MaxContent]
// characters in base64, and runs it at every start. What it guarantees is in
// README.md of this directory.
package lifecycle

import (
	_ "embed"
	"encoding/base64"
	"fmt"
	"regexp"
	"strings"
)

// MaxContent is how long a lifecycle configuration may be, in base64 (API
// reference: CreateNotebookInstanceLifecycleConfig and
// CreateStudioLifecycleConfig).
const MaxContent = 16384

// The scripts as they are in the packages.
var (
	//go:embed notebook-instance/on-start.sh
	notebookInstance string
	//go:embed studio/on-start.sh
	studio string
)

// Surface is where a script runs.
type Surface string

// The surfaces.
const (
	NotebookInstance Surface = "notebook-instance"
	Studio           Surface = "studio"
)

// Choices are what an administrator sets at the top of a script.
type Choices struct {
	Package    string // s3://bucket/key or an absolute path
	SHA256     string // of the package; a package in S3 needs it
	S3Endpoint string // may be empty
	Settings   string // lines of nbidentityd.toml; may be empty
	FailClosed bool
}

var sumPattern = regexp.MustCompile(`^[0-9a-f]{64}$`)

// Script returns the script of a surface with the choices in it.
func Script(s Surface, c Choices) (string, error) {
	text := notebookInstance
	if s == Studio {
		text = studio
	}
	switch {
	case strings.HasPrefix(c.Package, "s3://") && c.SHA256 == "":
		return "", fmt.Errorf("package %s: its SHA-256 is missing", c.Package)
	case c.SHA256 != "" && !sumPattern.MatchString(c.SHA256):
		return "", fmt.Errorf("package %s: %q is not a SHA-256: want 64 hexadecimal digits in lower case", c.Package, c.SHA256)
	}
	var set strings.Builder
	for _, v := range []struct{ name, value string }{
		{"PACKAGE", c.Package}, {"SHA256", c.SHA256}, {"S3_ENDPOINT", c.S3Endpoint}, {"SETTINGS", c.Settings},
	} {
		if v.value != "" {
			fmt.Fprintf(&set, "NBIDENTITY_%s=%s #\n", v.name, quote(v.value)) // # for CRLF
		}
	}
	if c.FailClosed {
		set.WriteString("NBIDENTITY_FAIL_CLOSED=1 #\n")
	}
	first, rest, _ := strings.Cut(text, "\n")
	text = first + "\n" + set.String() + rest
	if n := base64.StdEncoding.EncodedLen(len(text)); n > MaxContent {
		return "", fmt.Errorf("the script has %d characters in base64, SageMaker takes %d: shorten the settings", n, MaxContent)
	}
	return text, nil
}

// quote makes one word of a shell of s.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
