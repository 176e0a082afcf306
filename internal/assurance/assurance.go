// Package assurance says how far the recorded name can be trusted against the
// notebook's own user, and why.
//
// [Assess] is a pure function of what was observed: it looks at nothing itself
// and assumes nothing. What was not observed counts as the worse case, so an
// assessment is never better than its evidence.
//
// The levels answer one question: can the notebook's user make an AWS call that
// does not carry the notebook's name, or that carries another's?
//
//   - enforced: no. Either SageMaker itself sets the source identity, which AWS
//     lets nobody change; or the user is kept apart from root and from the base
//     credentials, and an attempt under the user's own uid has just shown it.
//   - tamper-evident: yes, but it shows. The role is this name's alone, so
//     even a call with the base session, which CloudTrail lists as SageMaker's,
//     leads here; and no other name can be claimed.
//   - advisory: yes, and it may not show.
//
// What counts as enforced does not include other credentials that the user has
// brought along, and what AWS calls "the same notebook" includes whoever else can
// log in to it.
package assurance

// Level is how far the name can be trusted.
type Level string

// The levels, best first.
const (
	Enforced      Level = "enforced"
	TamperEvident Level = "tamper-evident"
	Advisory      Level = "advisory"
)

// Answer is what an observation came to.
type Answer string

// The answers. The zero Answer is Unknown.
const (
	Unknown Answer = ""
	Yes     Answer = "yes"
	No      Answer = "no"
)

// Facts are what was observed.
type Facts struct {
	// PlatformNames: the Studio domain sets the source identity of this app's
	// base session (ExecutionRoleIdentityConfig, private apps only).
	PlatformNames Answer

	// The boundary between the user and root.
	SameUID      Answer // the daemon runs as the notebook's user
	Sudo         Answer // the user may become root
	DockerSocket Answer // the user may start containers as root

	// SourceFiles: the user may change a file that the name comes from, such
	// as SageMaker's description of the notebook.
	SourceFiles Answer

	// The boundary between the user and the base credentials.
	Fence       Answer // the packet rules are in place, compared with the plan
	FenceReason string // why not
	// BaseReached: a process under the user's uid got the platform's own
	// answer from the metadata service.
	BaseReached Answer
	BaseReason  string // what that process met, or why it could not be run

	// RoleIsOwn: the role trusts no name but this one.
	RoleIsOwn Answer
}

// Reason is one observation that counted.
type Reason struct {
	// Fact is a whole sentence about this machine.
	Fact string `json:"fact"`
	// Raise says how to mend it; empty when it speaks for the level.
	Raise string `json:"raise,omitempty"`
}

// Assessment is a level with its reasons.
type Assessment struct {
	Level   Level    `json:"level"`
	Reasons []Reason `json:"reasons"`
}

// Assess judges the facts.
func Assess(f Facts) Assessment {
	if f.PlatformNames == Yes {
		return Assessment{Enforced, []Reason{{Fact: "SageMaker sets the source identity of this app's sessions, and AWS lets nobody change it."}}}
	}
	against := append(f.rootBoundary(), f.baseBoundary()...)
	if len(against) == 0 {
		return Assessment{Enforced, []Reason{
			{Fact: "The notebook's user cannot become root."},
			{Fact: "The packet rules are in place, and a process under the user's uid did not reach the base credentials: " + f.BaseReason + "."},
		}}
	}
	if f.RoleIsOwn == Yes {
		return Assessment{TamperEvident, append([]Reason{{Fact: "The role trusts no name but this one, so calls without the name still lead here and no other name can be claimed."}}, against...)}
	}
	role := Reason{
		Fact:  "The role trusts other names too: a user who reaches the base credentials can claim one of them.",
		Raise: "Give each notebook or profile a role of its own, or a launcher role whose tag binds the name.",
	}
	if f.RoleIsOwn == Unknown {
		role.Fact = "Whether the role trusts other names too is not known here."
		role.Raise = "Where only this notebook's role may use this name, the trust policy must say so: one role per notebook, or a launcher role whose tag binds the name."
	}
	return Assessment{Advisory, append(against, role)}
}

// rootBoundary lists what lets the user become root, or may.
func (f Facts) rootBoundary() []Reason {
	var against []Reason
	add := func(a Answer, yes, unknown, raise string) {
		switch a {
		case Yes:
			against = append(against, Reason{yes, raise})
		case Unknown:
			against = append(against, Reason{unknown, raise})
		}
	}
	const raiseRoot = "On a notebook instance, set RootAccess=Disabled. Studio has no such boundary."
	add(f.SameUID, "The daemon runs as the notebook's user, who can end it or read its memory.",
		"Whether the daemon runs as the notebook's user is not known.", "Run the daemon as root or as a user of its own.")
	add(f.Sudo, "The notebook's user may become root by sudo.", "Whether the notebook's user may become root by sudo is not known.", raiseRoot)
	add(f.DockerSocket, "The notebook's user may use Docker's socket, which is root's power.",
		"Whether the notebook's user may use Docker's socket is not known.", "Take the user out of the docker group, or use rootless Docker.")
	add(f.SourceFiles, "The notebook's user may change a file that the name comes from: the daemon would take another name from it at its next start.",
		"Whether the notebook's user may change a file that the name comes from is not known.",
		"Give the metadata file, the daemon's state directory and program, and every directory above them, to root alone (chown root, chmod go-w).")
	return against
}

// baseBoundary lists what lets the user reach the base credentials, or may.
func (f Facts) baseBoundary() []Reason {
	var against []Reason
	if f.Fence != Yes {
		fact := "The packet rules around the metadata service are not in place"
		if f.FenceReason != "" {
			fact += ": " + f.FenceReason
		}
		against = append(against, Reason{fact + ".", "Run the daemon with CAP_NET_ADMIN on a notebook instance. Studio's container endpoint cannot be fenced."})
	}
	switch f.BaseReached {
	case Yes:
		against = append(against, Reason{"A process under the user's uid reached the base credentials: " + f.BaseReason + ".", "On a notebook instance, mend the packet rules; see the log. Studio's container endpoint cannot be fenced."})
	case Unknown:
		against = append(against, Reason{"Whether a process under the user's uid can reach the base credentials could not be tried: " + f.BaseReason + ".", "Run the daemon as root, so that it can try."})
	}
	return against
}
