package assurance

import (
	"fmt"
	"strings"
	"testing"
)

// boundary is a notebook instance with RootAccess=Disabled on which everything
// works.
var boundary = Facts{
	PlatformNames: No, SameUID: No, Sudo: No, DockerSocket: No, SourceFiles: No,
	Fence: Yes, BaseReached: No, BaseReason: "redirected", RoleIsOwn: No,
}

func TestAssess(t *testing.T) {
	for _, tt := range []struct {
		name   string
		change func(*Facts)
		want   Level
		says   string
	}{
		{"everything works", func(*Facts) {}, Enforced, "cannot become root"},
		{"platform names", func(f *Facts) { *f = Facts{PlatformNames: Yes} }, Enforced, "SageMaker sets"},
		{"nothing observed", func(f *Facts) { *f = Facts{} }, Advisory, "is not known"},
		{"sudo", func(f *Facts) { f.Sudo = Yes }, Advisory, "RootAccess=Disabled"},
		{"sudo, own role", func(f *Facts) { f.Sudo, f.RoleIsOwn = Yes, Yes }, TamperEvident, "by sudo"},
		{"docker", func(f *Facts) { f.DockerSocket = Yes }, Advisory, "Docker's socket"},
		{"metadata file", func(f *Facts) { f.SourceFiles = Yes }, Advisory, "another name"},
		{"same uid", func(f *Facts) { f.SameUID = Yes }, Advisory, "runs as the notebook's user"},
		{"no fence", func(f *Facts) { f.Fence, f.FenceReason = No, "no CAP_NET_ADMIN" }, Advisory, "not in place: no CAP_NET_ADMIN."},
		{"fence but reached", func(f *Facts) { f.BaseReached, f.BaseReason = Yes, "status 200" }, Advisory, "reached the base credentials: status 200"},
		{"not tried", func(f *Facts) { f.BaseReached, f.BaseReason = Unknown, "not root" }, Advisory, "could not be tried: not root"},
		{"own role alone", func(f *Facts) { *f = Facts{RoleIsOwn: Yes} }, TamperEvident, "no name but this one"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			f := boundary
			tt.change(&f)
			got := Assess(f)
			if got.Level != tt.want {
				t.Errorf("level %s, want %s", got.Level, tt.want)
			}
			if text := fmt.Sprint(got.Reasons); !strings.Contains(text, tt.says) {
				t.Errorf("reasons do not say %q:\n%s", tt.says, text)
			}
		})
	}
}

// Of all combinations of facts, better evidence never lowers the level, and a
// level below enforced always says how to raise it.
func TestAssessIsMonotone(t *testing.T) {
	rank := map[Level]int{Advisory: 0, TamperEvident: 1, Enforced: 2}
	fields := []struct {
		set  func(*Facts, Answer)
		best Answer
	}{
		{func(f *Facts, a Answer) { f.PlatformNames = a }, Yes},
		{func(f *Facts, a Answer) { f.SameUID = a }, No},
		{func(f *Facts, a Answer) { f.Sudo = a }, No},
		{func(f *Facts, a Answer) { f.DockerSocket = a }, No},
		{func(f *Facts, a Answer) { f.SourceFiles = a }, No},
		{func(f *Facts, a Answer) { f.Fence = a }, Yes},
		{func(f *Facts, a Answer) { f.BaseReached = a }, No},
		{func(f *Facts, a Answer) { f.RoleIsOwn = a }, Yes},
	}
	answers := []Answer{Unknown, Yes, No}
	total := 1
	for range fields {
		total *= len(answers)
	}
	for n := range total {
		var f Facts
		rest := n
		for _, field := range fields {
			field.set(&f, answers[rest%len(answers)])
			rest /= len(answers)
		}
		got := Assess(f)
		if len(got.Reasons) == 0 {
			t.Fatalf("%+v: no reasons", f)
		}
		raise := false
		for _, r := range got.Reasons {
			raise = raise || r.Raise != ""
		}
		if got.Level != Enforced && !raise {
			t.Errorf("%+v: %s, and nothing says how to raise it", f, got.Level)
		}
		for i, field := range fields {
			better := f
			field.set(&better, field.best)
			if after := Assess(better); rank[after.Level] < rank[got.Level] {
				t.Errorf("%+v: field %d at its best lowers %s to %s", f, i, got.Level, after.Level)
			}
		}
	}
}
