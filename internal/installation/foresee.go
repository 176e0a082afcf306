package installation

import (
	"os"
	"path/filepath"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/blueprint"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/netfence/plan"
)

// foresee adds what a daemon makes when it runs under these settings.
func (w *work) foresee() {
	for _, u := range w.Users {
		w.note(blueprint.TokenFile(w.Settings, u), "written by the daemon at each start")
	}
	w.note(w.Settings.Socket, "made by the daemon, with "+filepath.Base(w.Settings.Socket)+".lock")
	w.note(w.Settings.StateDir, "written to by the daemon")
	if w.Notebook.Surface != identity.SurfaceNotebookInstance || !blueprint.Fenced(w.Settings) {
		return
	}
	cfg, err := blueprint.FenceConfig(w.Settings, uint32(os.Geteuid()), uint16(w.Settings.Faces.IMDSPort))
	if err != nil {
		w.steps = append(w.steps, Step{"packet rules", err.Error(), nil})
	}
	fence, err := plan.New(cfg)
	if err != nil {
		w.note("packet rules", "refused: "+err.Error())
		return
	}
	w.note("packet rules", "added by the daemon", strings.Split(strings.TrimSuffix(fence.String(), "\n"), "\n")...)
}
