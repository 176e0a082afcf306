package trail

import (
	"slices"
	"testing"
)

// A session that several grants share is answered alike in whatever order they
// came.
func TestJoinGrants(t *testing.T) {
	named := func(name string) grantAnswer { return grantAnswer{answer: Answer{Name: name}} }
	split := func(names ...string) grantAnswer { return grantAnswer{split: names} }
	for _, tt := range []struct {
		name  string
		a, b  grantAnswer
		who   string
		split []string
	}{
		{"same name", named("alice"), named("alice"), "alice", nil},
		{"two names", named("alice"), named("bob"), "", []string{"alice", "bob"}},
		{"name and nobody", named("alice"), named(""), "alice", nil},
		{"name and a split without it", named("alice"), split("bob", "carol"), "", []string{"alice", "bob", "carol"}},
		{"name and a split with it", named("alice"), split("alice", "bob"), "", []string{"alice", "bob"}},
		{"two splits", split("alice", "bob"), split("bob", "carol"), "", []string{"alice", "bob", "carol"}},
		{"nobody and a split", named(""), split("alice", "bob"), "", []string{"alice", "bob"}},
	} {
		for _, got := range []grantAnswer{tt.a.join(tt.b), tt.b.join(tt.a)} {
			if got.answer.Name != tt.who || !slices.Equal(got.split, tt.split) {
				t.Errorf("%s: %q %v, want %q %v", tt.name, got.answer.Name, got.split, tt.who, tt.split)
			}
		}
	}
}
