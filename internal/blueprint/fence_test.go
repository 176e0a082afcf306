package blueprint

import (
	"slices"
	"strings"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// A name in the settings that nobody has must not take the fence down.
func TestFenceWithoutUnknownUsers(t *testing.T) {
	t.Parallel()
	set := settings.Default()
	set.Fence.AllowUsers = []string{"no-such-user", "root"}
	got, err := FenceConfig(set, 7, 938)
	if err == nil || !strings.Contains(err.Error(), `fence.allow_users: user "no-such-user"`) {
		t.Errorf("got %v, want an error that names setting and user", err)
	}
	if got.UID != 7 || got.RedirectPort != 938 || !slices.Equal(got.AllowUIDs, []uint32{0}) {
		t.Errorf("the fence is %+v", got)
	}
}
