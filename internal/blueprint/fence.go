package blueprint

import (
	"errors"
	"fmt"

	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// FenceConfig is the fence that a daemon of this uid raises, with its metadata
// service on port; 0 is none. The error names users of the settings who do not
// exist. They are no reason to have no fence: it stands without them.
func FenceConfig(set settings.Settings, uid uint32, port uint16) (plan.Config, error) {
	c := plan.Config{UID: uid, RedirectPort: port, Containers: set.Fence.Containers}
	var unknown []error
	for _, name := range set.Fence.AllowUsers {
		u, err := notebookuser.Lookup(settings.User{Name: name})
		if err != nil {
			unknown = append(unknown, fmt.Errorf("fence.allow_users: %w: correct the name, or take it out", err))
			continue
		}
		c.AllowUIDs = append(c.AllowUIDs, uint32(u.UID))
	}
	return c, errors.Join(unknown...)
}

// Fenced reports whether the settings want a fence.
func Fenced(set settings.Settings) bool {
	return set.Fence.Enabled && set.Endpoints.IMDS == ""
}
