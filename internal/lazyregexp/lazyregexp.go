// Package lazyregexp compiles a regular expression when it is first used.
//
// A program pays at its start for every expression of every package that it links,
// used or not. In nbidentityd that was a third of the start and 1.2 MB of the daemon's
// memory, most of it for commands that the daemon never runs.
//
// An expression that does not compile panics at its first use, as
// [regexp.MustCompile] does at start: each needs a test that uses it.
package lazyregexp

import (
	"regexp"
	"sync"
)

// Regexp is an expression that may not be compiled yet. Its methods are those of
// [regexp.Regexp] and may be called from several goroutines.
type Regexp struct{ compiled func() *regexp.Regexp }

// New returns the expression.
func New(expr string) Regexp {
	return Regexp{sync.OnceValue(func() *regexp.Regexp { return regexp.MustCompile(expr) })}
}

// MatchString reports whether s contains a match.
func (r Regexp) MatchString(s string) bool { return r.compiled().MatchString(s) }

// FindStringSubmatch returns the leftmost match in s and its groups, nil if there is none.
func (r Regexp) FindStringSubmatch(s string) []string { return r.compiled().FindStringSubmatch(s) }

// FindAllStringIndex returns where the first n matches in s are; n < 0 is all.
func (r Regexp) FindAllStringIndex(s string, n int) [][]int {
	return r.compiled().FindAllStringIndex(s, n)
}
