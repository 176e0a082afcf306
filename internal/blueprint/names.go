package blueprint

import (
	"fmt"

	"github.com/nbidentityd/nbidentityd/internal/discovery"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// Templates say how a name becomes what AWS records.
type Templates struct{ sessionName, sourceIdentity identity.Template }

// ParseTemplates reads those of the settings.
func ParseTemplates(want settings.Identity) (t Templates, err error) {
	if t.sessionName, err = identity.ParseTemplate(want.SessionName); err != nil {
		return t, fmt.Errorf("identity.session_name: %w", err)
	}
	if t.sourceIdentity, err = identity.ParseTemplate(want.SourceIdentity); err != nil {
		return t, fmt.Errorf("identity.source_identity: %w", err)
	}
	return t, nil
}

// Names renders both names. Where the domain itself sets the source identity, it is
// the plain profile name and cannot be changed: sending another would be refused.
func (t Templates) Names(facts discovery.Facts) (sessionName, sourceIdentity string, err error) {
	if facts.PropagatesSourceIdentity {
		t.sourceIdentity = identity.Template{}
	}
	if sessionName, err = t.sessionName.Format(facts.Subject); err != nil {
		return "", "", fmt.Errorf("identity.session_name: %w", err)
	}
	if sourceIdentity, err = t.sourceIdentity.Format(facts.Subject); err != nil {
		return "", "", fmt.Errorf("identity.source_identity: %w", err)
	}
	return sessionName, sourceIdentity, nil
}

// Names are the session name and source identity that the daemon sends under
// these settings.
func Names(want settings.Identity, facts discovery.Facts) (sessionName, sourceIdentity string, err error) {
	t, err := ParseTemplates(want)
	if err != nil {
		return "", "", err
	}
	return t.Names(facts)
}
