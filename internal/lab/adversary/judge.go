package main

import (
	"context"
	"fmt"
	"slices"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// tally counts calls by the name that their records carry.
type tally struct {
	right, none, wrong int
}

func (t *tally) add(o tally) {
	t.right += o.right
	t.none += o.none
	t.wrong += o.wrong
}

func (t tally) calls() int { return t.right + t.none + t.wrong }

func (t tally) String() string { return fmt.Sprintf("%d/%d/%d", t.right, t.none, t.wrong) }

// judge holds every call against the name that it must carry twice. A call
// that its caller has disguised as the daemon's counts like any other.
func judge(calls []lab.Record, name string) tally {
	var t tally
	for _, c := range calls {
		source := c.UserIdentity.SessionContext.SourceIdentity
		switch {
		case source == name && c.SessionName() == name:
			t.right++
		case source == "":
			t.none++
		default:
			t.wrong++
		}
	}
	return t
}

// trail reads fakeaws' records from where it stopped the last time.
type trail struct {
	account *lab.Account
	seen    int
}

// calls returns all calls since but SageMaker's own, which begin base sessions.
func (t *trail) calls(ctx context.Context) ([]lab.Record, error) {
	records, err := t.account.Records(ctx, t.seen)
	t.seen += len(records)
	return slices.DeleteFunc(records, func(r lab.Record) bool { return r.UserIdentity.Type == "AWSService" }), err
}
