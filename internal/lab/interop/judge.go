package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// watch reads the trail of one notebook from where it stopped the last time.
type watch struct {
	account *lab.Account
	source  string // address from which its calls come
	seen    int
}

// calls returns the calls that programs on the notebook have made since.
func (w *watch) calls(ctx context.Context) ([]lab.Record, error) {
	records, err := w.account.Records(ctx, w.seen)
	w.seen += len(records)
	return slices.DeleteFunc(records, func(r lab.Record) bool { return !r.ByClient() || r.SourceIP != w.source }), err
}

// verdict counts calls by what their records say about who made them.
type verdict struct {
	calls         int
	unattributed  int // without a source identity: nobody's
	misattributed int // under another name than the notebook's, in either place
}

// judge holds calls against the name that all of them must carry twice.
func judge(calls []lab.Record, name string) verdict {
	v := verdict{calls: len(calls)}
	for _, c := range calls {
		source := c.UserIdentity.SessionContext.SourceIdentity
		switch {
		case source == "":
			v.unattributed++
		case source != name || c.SessionName() != name:
			v.misattributed++
		}
	}
	return v
}

func (v *verdict) add(other verdict) {
	v.calls += other.calls
	v.unattributed += other.unattributed
	v.misattributed += other.misattributed
}

// good: there were calls, and each one had the right name.
func (v verdict) good() bool { return v.calls > 0 && v.unattributed == 0 && v.misattributed == 0 }

func (v verdict) String() string {
	return fmt.Sprintf("%d calls, %d unattributed, %d misattributed", v.calls, v.unattributed, v.misattributed)
}

// agentOf is the product that a call's user agent begins with. S3's records
// have the whole of it in brackets.
func agentOf(call lab.Record) string {
	agent, _, _ := strings.Cut(strings.TrimPrefix(call.UserAgent, "["), " ")
	return agent
}

// describe lists what was called, and for a wrong name which one it carried.
func describe(calls []lab.Record, name string) string {
	var all []string
	for _, c := range calls {
		s := c.EventName
		if v := judge([]lab.Record{c}, name); !v.good() {
			s += fmt.Sprintf(" (as %s, source identity %q)", c.UserIdentity.ARN, c.UserIdentity.SessionContext.SourceIdentity)
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}
