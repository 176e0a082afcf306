package blueprint

import (
	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// FenceConfig is the fence that a daemon of this uid raises, with its metadata
// service on port; 0 is none.
func FenceConfig(set settings.Settings, uid uint32, port uint16) (plan.Config, error) {
	allow, err := uidsOf(set.Fence.AllowUsers)
	return plan.Config{UID: uid, AllowUIDs: allow, RedirectPort: port, Containers: set.Fence.Containers}, err
}

// Fenced reports whether the settings want a fence.
func Fenced(set settings.Settings) bool {
	return set.Fence.Enabled && set.Endpoints.IMDS == ""
}

func uidsOf(names []string) ([]uint32, error) {
	var uids []uint32
	for _, name := range names {
		u, err := notebookuser.Lookup(settings.User{Name: name})
		if err != nil {
			return nil, err
		}
		uids = append(uids, uint32(u.UID))
	}
	return uids, nil
}
