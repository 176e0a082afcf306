package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// describe counts calls by what they were and whose.
func describe(calls []lab.Record) string {
	kinds := map[string]int{}
	for _, c := range calls {
		kinds[fmt.Sprintf("%s by %s as %s, source identity %q", c.EventName, c.Agent(), c.SessionName(), c.UserIdentity.SessionContext.SourceIdentity)]++
	}
	var all []string
	for _, kind := range slices.Sorted(maps.Keys(kinds)) {
		all = append(all, fmt.Sprintf("%d × %s", kinds[kind], kind))
	}
	if len(all) == 0 {
		return "no call"
	}
	return strings.Join(all, "; ")
}
