// Package blueprint says what the settings make of a notebook: the configuration
// of each room, for the daemon that runs them and for the commands that foresee,
// check and undo what the daemon does. Nothing here runs on.
package blueprint

import (
	"errors"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/discovery"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// propagationVariable is spelled so by AWS.
const propagationVariable = "TRUSTED_IDENTITY_PROPOGATION_ENABLED"

// Propagation reports whether the platform has switched trusted identity
// propagation on. AWS documents no values for the variable: anything but a plain
// no is a yes, since going on would drop the user's own identity.
func Propagation(getenv func(string) string) bool {
	switch strings.ToLower(getenv(propagationVariable)) {
	case "", "0", "false", "no":
		return false
	}
	return true
}

// Aside returns why nbidentityd leaves this notebook alone, as an error that
// StepsAside knows, or nil. getenv is that of a process of the platform's.
func Aside(nb identity.Notebook, getenv func(string) string) error {
	return discovery.Aside(nb, Propagation(getenv))
}

// StepsAside reports whether err says that the platform names its users.
func StepsAside(err error) (reason string, yes bool) {
	var aside discovery.StepAside
	if errors.As(err, &aside) {
		return aside.Reason, true
	}
	return "", false
}
