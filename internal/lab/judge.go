package lab

import (
	"fmt"
	"strings"
)

// PlatformName is the role session name of every base session.
const PlatformName = "SageMaker"

// Verdict counts calls by what their records say about who made them.
type Verdict struct {
	Calls         int
	Unattributed  int // without a source identity: nobody's
	Misattributed int // under another name than the one wanted, in either place
}

// Judge holds calls against the name that all of them must carry, as session
// name and as source identity. Without a name they must be the platform's own.
func Judge(calls []Record, name string) Verdict {
	v := Verdict{Calls: len(calls)}
	session := name
	if name == "" {
		session = PlatformName
	}
	for _, c := range calls {
		source := c.UserIdentity.SessionContext.SourceIdentity
		switch {
		case source == "" && name != "":
			v.Unattributed++
		case source != name || c.SessionName() != session:
			v.Misattributed++
		}
	}
	return v
}

// Add adds another verdict's counts.
func (v *Verdict) Add(other Verdict) {
	v.Calls += other.Calls
	v.Unattributed += other.Unattributed
	v.Misattributed += other.Misattributed
}

// Good reports whether there were calls, and each one was as wanted.
func (v Verdict) Good() bool { return v.Calls > 0 && v.Unattributed == 0 && v.Misattributed == 0 }

func (v Verdict) String() string {
	return fmt.Sprintf("%d calls, %d unattributed, %d misattributed", v.Calls, v.Unattributed, v.Misattributed)
}

// Agent is the product that the call's user agent begins with. S3's records
// have the whole of it in brackets.
func (r Record) Agent() string {
	agent, _, _ := strings.Cut(strings.TrimPrefix(r.UserAgent, "["), " ")
	return agent
}
