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

// describe lists what was called, and for a wrong name which one it carried.
func describe(calls []lab.Record, name string) string {
	var all []string
	for _, c := range calls {
		s := c.EventName
		if v := lab.Judge([]lab.Record{c}, name); !v.Good() {
			s += fmt.Sprintf(" (as %s, source identity %q)", c.UserIdentity.ARN, c.UserIdentity.SessionContext.SourceIdentity)
		}
		all = append(all, s)
	}
	return strings.Join(all, ", ")
}
