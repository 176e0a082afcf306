package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// platformName is the session name of every base session.
const platformName = "SageMaker"

// verdict counts calls by what their records say about who made them.
type verdict struct {
	calls         int
	unattributed  int // without a source identity: nobody's
	misattributed int // under another name than the one wanted
}

// judge holds calls against the name that all of them must carry, as session
// name and as source identity. Without a name, they must be the platform's own.
func judge(calls []lab.Record, name string) verdict {
	v := verdict{calls: len(calls)}
	session := name
	if name == "" {
		session = platformName
	}
	for _, c := range calls {
		source := c.UserIdentity.SessionContext.SourceIdentity
		switch {
		case source == "" && name != "":
			v.unattributed++
		case source != name || c.SessionName() != session:
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

// good: there were calls, and each one was as wanted.
func (v verdict) good() bool { return v.calls > 0 && v.unattributed == 0 && v.misattributed == 0 }

func (v verdict) String() string {
	return fmt.Sprintf("%d calls, %d unattributed, %d misattributed", v.calls, v.unattributed, v.misattributed)
}

// describe counts calls by what they were and whose.
func describe(calls []lab.Record) string {
	kinds := map[string]int{}
	for _, c := range calls {
		agent, _, _ := strings.Cut(strings.TrimPrefix(c.UserAgent, "["), " ")
		kinds[fmt.Sprintf("%s by %s as %s, source identity %q", c.EventName, agent, c.SessionName(), c.UserIdentity.SessionContext.SourceIdentity)]++
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
