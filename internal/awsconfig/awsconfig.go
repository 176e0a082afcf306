// Package awsconfig edits the text of ~/.aws/config so that the default
// profile of every AWS client gets its credentials from one command.
//
// It is a line editor and knows nothing of files. Apply puts the managed keys
// directly after the header of [default], between two marks, and comments out
// at column 0 each key of the default profile that some client would prefer to
// credential_process. All other bytes stay. What it changes it can undo from
// the text alone: for every x that Apply accepts and that holds no mark of
// ours, Remove(Apply(x)) is x, byte for byte. Apply works on Remove of its
// input, so it is idempotent, repairs a damaged block, and replaces older
// managed values. Edits that the user makes elsewhere survive Remove.
//
// The clients read the file by different grammars. The package relies on these
// facts (botocore reads with Python's strict configparser):
//
//   - a duplicate section or key, a byte order mark, text before the first
//     header or a line without "=" or ":" makes botocore refuse the whole file;
//     Apply refuses such files too, because no edit of [default] would help;
//   - of [default] and [profile default] botocore takes the later one, most
//     others the second form, C++ both: both get the managed keys;
//   - an indented line continues the value above it, in Java and Rust even an
//     indented comment, and a ":" for "=" makes both refuse the file; so such
//     lines of the default profile are rewritten, the original kept in a
//     comment above;
//   - botocore lets every section inherit from [DEFAULT], so Apply refuses a
//     file that has a conflicting key there.
//
// What it does not do: a static key that is commented out stays on the disk in
// the user's own file, as legible as before. ~/.aws/credentials overrides this
// file in most clients; Shadows reports that and repairs nothing. Lines outside
// the default profile that only Java and Rust reject are left alone; Faults
// reports them.
//
// The package is longer than most because it must know six grammars: parse.go
// is botocore's, the strictest; edit.go writes what all six read alike; strip.go
// undoes; check.go reports.
package awsconfig

import (
	"bytes"
	"errors"
	"fmt"
	"path"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

// What the package will look at. The lines of the largest text are bounded
// because each costs some hundred bytes to look at: of a megabyte of line ends,
// a notebook user's, the daemon would die.
const (
	MaxSize  = 1 << 20 // bytes
	MaxLines = 1 << 14 // without those that Apply adds

	maxFindings = 32 // of each kind and file
)

// Managed is what the default profile must say. An empty Region or
// STSRegionalEndpoints leaves that key to the user.
type Managed struct {
	CredentialProcess    string // absolute path and arguments, free of quoting
	Region               string // added only where the user has set none
	STSRegionalEndpoints string // "regional" or "legacy"
}

var (
	wordRE   = lazyregexp.New(`^[A-Za-z0-9_./:=,+@-]+$`)
	regionRE = lazyregexp.New(`^[a-z][a-z0-9-]{0,62}$`)
)

// Validate reports values that some client would misread. The clients split
// the command by a shell, by shlex or after cutting comments; a command that
// needs no quoting means the same to all of them.
func (m Managed) Validate() error {
	words := strings.Split(m.CredentialProcess, " ")
	if !path.IsAbs(words[0]) || path.Clean(words[0]) != words[0] {
		return fmt.Errorf("credential_process %q must start with a clean absolute path", m.CredentialProcess)
	}
	for _, w := range words {
		if !wordRE.MatchString(w) {
			return fmt.Errorf("credential_process %q must not need quoting: letters, digits and _./:=,+@- in words with one space between", m.CredentialProcess)
		}
	}
	if m.Region != "" && !regionRE.MatchString(m.Region) {
		return fmt.Errorf("region %q is not a region name", m.Region)
	}
	switch m.STSRegionalEndpoints {
	case "", "regional", "legacy":
		return nil
	}
	return fmt.Errorf("sts_regional_endpoints %q must be regional or legacy", m.STSRegionalEndpoints)
}

// SyntaxError is a place in the config that cannot be edited safely.
type SyntaxError struct {
	Line    int // 1-based, in the text as given
	Problem string
	Remedy  string
}

func (e *SyntaxError) Error() string {
	return fmt.Sprintf("line %d: %s: %s", e.Line, e.Problem, e.Remedy)
}

// ErrTooLarge is returned for text over MaxSize or MaxLines.
var ErrTooLarge = errors.New("config is larger than 1 MiB or 16384 lines")

// tooLarge leaves room for what Apply adds: at most a line for each, and the
// blocks of two sections.
func tooLarge(text []byte) bool {
	return len(text) > MaxSize || bytes.Count(text, []byte("\n")) > 2*MaxLines+32
}

// Action says what Apply does to a line.
type Action string

// The actions of a Change.
const (
	Added        Action = "added"
	CommentedOut Action = "commented out"
	Rewritten    Action = "rewritten"
)

// Change is one thing that Apply does, for people to read.
type Change struct {
	Line    int    `json:"line"` // 1-based, in the text as given; 0 for Added
	Section string `json:"section"`
	Key     string `json:"key"` // lower case; "" for a header or comment
	Action  Action `json:"action"`
	// Secret is set if the line holds, or may hold, a secret. It remains in
	// the file behind the comment sign.
	Secret bool `json:"secret,omitempty"`
}

func (c Change) String() string {
	what := c.Key
	if what == "" {
		what = "line"
	}
	if c.Line == 0 {
		return fmt.Sprintf("%s: %s %s", c.Section, what, c.Action)
	}
	return fmt.Sprintf("line %d: %s: %s %s", c.Line, c.Section, what, c.Action)
}

// Edit is a new text and how it differs from the user's own.
type Edit struct {
	Text []byte
	// Changes lists all that separates Text from Remove(Text), also what an
	// earlier Apply has already done.
	Changes []Change
}

// Apply returns config with the managed keys in the default profile. It fails
// with a *SyntaxError, ErrTooLarge or an error of Managed.Validate.
func Apply(config []byte, m Managed) ([]byte, error) {
	edit, err := Plan(config, m)
	return edit.Text, err
}

// Plan is Apply with a list of the changes.
func Plan(config []byte, m Managed) (Edit, error) {
	if err := m.Validate(); err != nil {
		return Edit{}, err
	}
	if tooLarge(config) {
		return Edit{}, ErrTooLarge
	}
	lines := strip(splitLines(config))
	if len(lines) > MaxLines {
		return Edit{}, ErrTooLarge
	}
	doc, err := parse(lines)
	if err != nil {
		return Edit{}, err
	}
	e := editor{Managed: m, doc: doc}
	if err := e.run(); err != nil {
		return Edit{}, err
	}
	return Edit{Text: joinLines(e.out), Changes: e.changes}, nil
}

// Remove returns config as it would be had Apply never run. A key that the
// user has set again since replaces the one that Apply commented out.
func Remove(config []byte) ([]byte, error) {
	if len(config) > MaxSize {
		return nil, ErrTooLarge
	}
	lines := splitLines(config)
	if !marked(lines) {
		return bytes.Clone(config), nil
	}
	return joinLines(strip(lines)), nil
}

// Marked reports whether config holds any mark of Apply.
func Marked(config []byte) bool { return marked(splitLines(config)) }
