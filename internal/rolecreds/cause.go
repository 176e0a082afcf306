package rolecreds

import (
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/rolecreds/denial"
)

// The codes that only a Source has, besides those of awscause.
const (
	CodeNotReady                = "not_ready"                  // the first attempt has not ended yet, or the daemon is stopping
	CodeDeniedAssumeRole        = "denied_assume_role"         // a policy refuses sts:AssumeRole or sts:TagSession, or the role does not exist
	CodeDeniedSetSourceIdentity = "denied_set_source_identity" // a policy refuses sts:SetSourceIdentity
	CodeSourceIdentityConflict  = "source_identity_conflict"   // the base session already carries another name
	CodeExpired                 = "expired"                    // the last good credentials have ended; renewal has not been tried or has not ended yet
	CodeMisattributed           = "misattributed"              // STS answered for another name than the one asked for
)

// call describes the call that has just been made, to explain how it ended.
func (c *caller) call() awscause.Call {
	return awscause.Call{
		Doing:    "assuming role " + c.role.String(),
		Service:  "STS",
		Endpoint: "sts",
		Region:   c.region,
		Timeout:  callTimeout,
		Denied:   c.denied,
		Own:      c.own,
	}
}

func (c *caller) own(code, message string) awscause.Cause {
	if code != "RegionDisabledException" {
		return awscause.Cause{}
	}
	return awscause.Cause{
		Code:    awscause.CodeFailed,
		Problem: code + ": " + message,
		Remedy:  fmt.Sprintf("activate STS for region %s in the IAM console (Account settings), or use the endpoint of an active region", c.region),
	}
}

func (c *caller) denied(message string) awscause.Cause {
	d := denial.Parse(message)
	action := d.Action
	if action == "" {
		action = denial.ActionAssumeRole
		for _, a := range []string{denial.ActionSetSourceIdentity, denial.ActionTagSession} {
			if strings.Contains(message, a) {
				action = a
			}
		}
	}
	code := CodeDeniedAssumeRole
	remedy := d.Remedy(c.role, action, c.sourceIdentity)
	switch action {
	case denial.ActionSetSourceIdentity:
		code = CodeDeniedSetSourceIdentity
		if d.Policy == "" && !d.Explicit {
			remedy = "sts:SetSourceIdentity is needed on both sides; " + remedy
		}
	case denial.ActionTagSession:
		remedy += "; or set no session tags"
	case denial.ActionAssumeRole:
		if !d.Explicit && d.Policy != denial.KindIdentity {
			remedy += "; conditions count too: a trust policy may refuse a base session that already carries a source identity, or a name that it does not list"
		}
	}
	return awscause.Cause{Code: code, Problem: fmt.Sprintf("access denied for %s: %s (%s)", action, d.Reason(), message), Remedy: remedy}
}
