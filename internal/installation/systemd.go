package installation

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/kernelenv"
)

// systemdLimit is for one command, which does not wait for a unit.
const systemdLimit = 20 * time.Second

// booted reports whether systemd runs this machine, as sd_booted(3) does.
func (w *work) booted() bool {
	_, err := os.Lstat("/run/systemd/system")
	return err == nil && w.Root == ""
}

// tellSystemd makes it read a changed drop-in. Jupyter itself is only restarted
// if that is wanted: it ends the kernels of whoever works there.
func (w *work) tellSystemd(ctx context.Context, changed bool) error {
	if !changed || !w.booted() || w.dry {
		return nil
	}
	if err := systemctl(ctx, "daemon-reload"); err != nil {
		return err
	}
	if systemctl(ctx, "--quiet", "is-active", kernelenv.JupyterUnit) != nil {
		return nil // not there, or not started yet: it will see the files
	}
	if !w.RestartJupyter {
		w.note(kernelenv.JupyterUnit, "runs with the old environment until: systemctl restart "+kernelenv.JupyterUnit+" (this ends its kernels)")
		return nil
	}
	if err := systemctl(ctx, "--no-block", "try-restart", kernelenv.JupyterUnit); err != nil {
		return err
	}
	w.note(kernelenv.JupyterUnit, "restarting")
	return nil
}

func systemctl(ctx context.Context, args ...string) error {
	ctx, cancel := context.WithTimeout(ctx, systemdLimit)
	defer cancel()
	out, err := exec.CommandContext(ctx, "systemctl", args...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("systemctl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
