package host

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
)

// manyRestarts is how many restarts are more than upgrades and a bad minute.
const manyRestarts = 10

// Supervision asks systemd about the service.
func (c Config) Supervision(ctx context.Context, s *report.Sheet) error {
	if c.Systemctl == "" {
		s.Note("no_systemd", "this machine has no systemd: nothing here can tell whether something restarts nbidentityd when it ends")
		return nil
	}
	service, err := c.show(ctx, Unit+".service")
	if err != nil {
		return err
	}
	enable := "systemctl enable --now " + Unit + ".socket " + Unit + ".service"
	unit := Unit + ".service"
	switch {
	case service["LoadState"] == "not-found":
		s.Find(report.Finding{ID: "unit_missing", Subject: unit, Saw: "systemd does not know the unit",
			Means: "nothing starts nbidentityd when the notebook starts", Commands: []string{"systemctl daemon-reload", enable},
			Hint: "when it is still not found, install the package again"})
		return nil
	case service["LoadState"] == "masked":
		s.Find(report.Finding{ID: "unit_disabled", Subject: unit, Saw: "the unit is masked",
			Means: "nbidentityd cannot be started", Commands: []string{"systemctl unmask " + unit, enable}})
		return nil
	}
	switch active := service["ActiveState"]; active {
	case "active", "reloading", "refreshing":
	case "activating":
		s.Note("unit_activating", "systemd is still starting the service (%s): it waits for the first credentials", service["SubState"])
	default:
		s.Find(report.Finding{ID: "unit_inactive", Subject: unit, Saw: fmt.Sprintf("the service is %s (%s)", active, service["Result"]),
			Means: "nbidentityd does not run", Commands: []string{"systemctl reset-failed " + unit, enable},
			Hint: "why it ended: journalctl -u " + Unit + " -n 50"})
	}
	if e := service["UnitFileState"]; e != "" && e != "enabled" && e != "enabled-runtime" && e != "static" && e != "linked" {
		s.Find(report.Finding{ID: "unit_disabled", Subject: unit, Saw: "the unit is " + e,
			Means: "nbidentityd does not start when the machine starts again", Commands: []string{enable}})
	}
	if n, err := strconv.Atoi(service["NRestarts"]); err == nil && n >= manyRestarts {
		s.Find(report.Finding{ID: "unit_restarts", Subject: unit, Saw: fmt.Sprintf("systemd has restarted the service %d times", n),
			Means: "something ends nbidentityd again and again", Commands: []string{"journalctl -u " + Unit + " -n 100", "systemctl reset-failed " + unit},
			Hint: "the first command shows why; the second sets the counter to zero"})
	}
	return nil
}

// show returns properties of a unit.
func (c Config) show(ctx context.Context, unit string) (map[string]string, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, c.Systemctl, "show", "--property=LoadState,ActiveState,SubState,UnitFileState,NRestarts,Result", unit)
	cmd.Env = []string{"LC_ALL=C", "PATH=/usr/bin:/bin"}
	cmd.WaitDelay = time.Second
	var out, complaint bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &complaint
	if err := cmd.Run(); err != nil {
		if ctx.Err() != nil {
			err = fmt.Errorf("systemctl did not answer in time")
		}
		return nil, fmt.Errorf("asking systemd: %w %s", err, bytes.TrimSpace(complaint.Bytes()))
	}
	properties := map[string]string{}
	for line := range strings.Lines(out.String()) {
		if key, value, found := strings.Cut(strings.TrimSpace(line), "="); found {
			properties[key] = value
		}
	}
	return properties, nil
}
