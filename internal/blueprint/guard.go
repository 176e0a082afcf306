package blueprint

import (
	"fmt"
	"os"
	"path/filepath"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/configguard"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// managed is what [default] in ~/.aws/config must say.
func managed(set settings.Settings, region string) awsconfig.Managed {
	command := set.Client
	if set.Socket != settings.Default().Socket {
		command += " --socket " + set.Socket
	}
	return awsconfig.Managed{
		CredentialProcess:    command + " credentials",
		Region:               region,
		STSRegionalEndpoints: "regional",
	}
}

// GuardConfig is one user's, with a directory of the daemon's own for what the
// text of the file cannot remember. To undo it, the notebook need not be known.
func GuardConfig(u notebookuser.User, set settings.Settings, nb identity.Notebook, log *zap.Logger) configguard.Config {
	open := unlocked(u, set, nb)
	return configguard.Config{
		Home: u.Home, UID: u.UID, GID: u.GID,
		Managed:  managed(set, nb.Region),
		StateDir: filepath.Join(set.StateDir, "aws-config", u.Name),
		Lock:     open == "",
		Unlocked: open,
		Log:      log.Named("configguard"),
	}
}

// unlocked says why a user's file is not to be locked, or "". Whether the
// kernel and the file system allow it is package configguard's business.
func unlocked(u notebookuser.User, set settings.Settings, nb identity.Notebook) string {
	switch {
	case !set.Guard.Lock:
		return "guard.lock is off in the settings"
	case nb.Surface != identity.SurfaceNotebookInstance:
		return "Studio's own tools write into ~/.aws, and its users may become root"
	case os.Geteuid() != 0:
		return "the daemon does not run as root"
	case u.UID == 0:
		return "the notebook's user is root"
	}
	return ""
}

// WriteConfig makes one user's SDKs ask us.
func WriteConfig(cfg configguard.Config) (configguard.Result, error) {
	if err := os.MkdirAll(cfg.StateDir, 0o700); err != nil {
		return configguard.Result{}, fmt.Errorf("making the state directory: %w", err)
	}
	return configguard.Write(cfg)
}
