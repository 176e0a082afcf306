package packaging_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
)

// directive is one line of a unit.
type directive struct{ section, key, value string }

func directives(t *testing.T, path string) (all []directive) {
	t.Helper()
	var section string
	for line := range strings.Lines(read(t, path)) {
		line = strings.TrimSpace(line)
		switch key, value, isKey := strings.Cut(line, "="); {
		case line == "" || line[0] == '#':
		case line[0] == '[':
			section = line
		case isKey:
			all = append(all, directive{section, key, value})
		default:
			t.Errorf("%s: %q is neither section nor key", path, line)
		}
	}
	return all
}

func units(t *testing.T) []string {
	t.Helper()
	all, err := filepath.Glob("systemd/nbidentityd*.s*")
	if err != nil || len(all) != 3 {
		t.Fatal(all, err)
	}
	return all
}

// since is the release of systemd that brought a directive, by systemd's own
// manual pages; 0 is 219, that of Amazon Linux 2, or before. What is newer must
// be harmless where it is missing, since 219 passes over it: the protection is
// not there, and nothing else changes.
var since = map[string]int{
	"[Unit]Description": 0, "[Unit]Documentation": 0, "[Unit]Before": 0,
	"[Socket]ListenStream": 0, "[Socket]SocketMode": 0, "[Socket]DirectoryMode": 0, "[Socket]Backlog": 0, "[Socket]RemoveOnStop": 0, "[Socket]Service": 0,
	"[Install]WantedBy": 0, "[Install]Also": 0,
	"[Service]Type": 0, "[Service]ExecStart": 0, "[Service]ExecReload": 0, "[Service]Sockets": 0, "[Service]TimeoutStartSec": 0, "[Service]TimeoutStopSec": 0,
	"[Service]WatchdogSec": 0, "[Service]Restart": 0, "[Service]RestartSec": 0, "[Service]StartLimitInterval": 0,
	"[Service]CapabilityBoundingSet": 0, "[Service]NoNewPrivileges": 0, "[Service]UMask": 0, "[Service]ProtectSystem": 0, "[Service]PrivateTmp": 0,
	"[Service]PrivateDevices": 0, "[Service]DevicePolicy": 0, "[Service]RestrictAddressFamilies": 0, "[Service]SystemCallArchitectures": 0,
	"[Service]SystemCallFilter": 0, "[Service]SystemCallErrorNumber": 0, "[Service]LimitCORE": 0, "[Service]LimitNOFILE": 0, "[Service]OOMScoreAdjust": 0,
	"[Service]TasksMax": 227, "[Service]MemoryMax": 231, "[Service]ReadWritePaths": 231, "[Service]MemoryDenyWriteExecute": 231, "[Service]RestrictRealtime": 231,
	"[Service]ProtectControlGroups": 232, "[Service]ProtectKernelModules": 232, "[Service]ProtectKernelTunables": 232, "[Service]RestrictNamespaces": 233,
	"[Service]StateDirectory": 235, "[Service]StateDirectoryMode": 235, "[Service]KeyringMode": 235, "[Service]LockPersonality": 235, "[Service]PrivateMounts": 239, "[Service]LogRateLimitIntervalSec": 240,
	"[Service]ProtectHostname": 242, "[Service]RestrictSUIDSGID": 242, "[Service]ProtectKernelLogs": 244, "[Service]ProtectClock": 245, "[Service]PrivateIPC": 248,
}

func TestUnitsOn219(t *testing.T) {
	for _, path := range units(t) {
		var protect []string
		for _, d := range directives(t, path) {
			version, known := since[d.section+d.key]
			if !known {
				t.Errorf("%s: since when is there %s %s=, and what does 219 do without it?", path, d.section, d.key)
			}
			if version > 252 {
				t.Errorf("%s: %s= is not on systemd 252", path, d.key)
			}
			switch {
			case d.key == "ProtectSystem":
				protect = append(protect, d.value)
			case d.key == "SystemCallFilter" && !strings.HasPrefix(d.value, "~"):
				t.Errorf("%s: %s=%s: 219 knows no groups, and an allow-list of nothing kills", path, d.key, d.value)
			case strings.HasPrefix(d.key, "Exec") && strings.IndexByte("+!@:", d.value[0]) >= 0:
				t.Errorf("%s: %s=%s: 219 does not know this prefix", path, d.key, d.value)
			}
		}
		if strings.HasSuffix(path, ".service") && strings.Join(protect, ",") != "full,strict" {
			t.Errorf("%s: ProtectSystem=%v: 219 keeps the last that it knows, so full goes before strict", path, protect)
		}
	}
	// What 219 does not make by StateDirectory=, and for the socket.
	for _, dir := range []string{"/run/nbidentityd 0755 ", "/var/lib/nbidentityd 0700 "} {
		if !strings.Contains(read(t, "systemd/nbidentityd.tmpfiles.conf"), "d "+dir) {
			t.Errorf("tmpfiles.d does not make %s", dir)
		}
	}
}

func TestUnitsOnThisSystemd(t *testing.T) {
	analyze := tool(t, "systemd-analyze")
	dir := t.TempDir()
	var copies []string
	for _, path := range units(t) {
		text := strings.ReplaceAll(read(t, path), "/usr/bin/nbidentityd", "/bin/true") // ours need not be installed
		copies = append(copies, filepath.Join(dir, filepath.Base(path)))
		if err := os.WriteFile(copies[len(copies)-1], []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	out, err := exec.Command(analyze, append([]string{"verify", "--man=no"}, copies...)...).CombinedOutput()
	for line := range strings.Lines(string(out)) {
		if strings.Contains(line, "nbidentityd") { // others' units may have faults
			t.Error(line)
		}
	}
	if err != nil {
		t.Errorf("systemd-analyze verify: %v", err)
	}
	// Of 10, where less is less exposed: what is left is root, the network, and the
	// rights that the unit explains.
	const most = 34
	out, err = exec.Command(analyze, "security", "--offline=true", "--no-pager", "--threshold="+strconv.Itoa(most), filepath.Join(dir, "nbidentityd.service")).CombinedOutput()
	if err != nil {
		t.Errorf("systemd-analyze security: %v\n%s", err, out)
	}
}
