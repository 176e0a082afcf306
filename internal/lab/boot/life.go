package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/boot/inventory"
)

const (
	kills        = 20
	restartLimit = 10 * time.Second // from a kill to an answer
	// hangLimit takes the place of the unit's own, which is minutes, so that a
	// run does not wait for it.
	hangLimit = 4 * time.Second
)

// underLoad keeps many callers calling while do runs.
func (n *instance) underLoad(ctx context.Context, do func() error) (callReport, error) {
	l, err := startLoad(n.machine.As(ctx, instanceUser, nil, "/opt/lab/boot", "-calls"))
	if err != nil {
		return callReport{}, err
	}
	done := do()
	if done == nil {
		lab.Wait(ctx, time.Second) // calls after it count, too
	}
	report, err := l.stop()
	return report, errors.Join(done, err)
}

// answer asks for credentials as the notebook's user, until there are some.
func (n *instance) answer(ctx context.Context, started time.Time) (time.Duration, error) {
	for {
		out, err := output(n.machine.As(ctx, instanceUser, nil, "nbidentity", "credentials"))
		if err == nil {
			return time.Since(started), nil
		}
		if time.Since(started) > restartLimit || ctx.Err() != nil {
			return 0, fmt.Errorf("no answer %s after the daemon's end: %s\n%s", restartLimit, out, n.journal(ctx))
		}
	}
}

// kill ends the daemon where it stands, again and again, under load.
func (n *instance) kill(ctx context.Context) error {
	return n.step(ctx, step{name: fmt.Sprintf("SIGKILL × %d", kills), want: instanceName, tolerate: kills, do: func() (string, error) {
		var times []time.Time
		var pauses []time.Duration
		report, err := n.underLoad(ctx, func() error {
			for range kills {
				pid, err := n.mainPID(ctx)
				if err != nil {
					return err
				}
				times = append(times, time.Now())
				if _, err := output(n.machine.Command(ctx, "kill", "-KILL", pid)); err != nil {
					return err
				}
				pause, err := n.answer(ctx, times[len(times)-1])
				if err != nil {
					return err
				}
				pauses = append(pauses, pause)
				lab.Wait(ctx, 300*time.Millisecond) // so that each worker calls between two kills
			}
			return nil
		})
		if err != nil {
			return "", err
		}
		figure := fmt.Sprintf("under load: %d of %d requests failed, slowest %d ms; answered after %d ms (median), %d ms (worst)", len(report.Failures), report.Calls,
			report.Slowest.Milliseconds(), median(pauses).Milliseconds(), slices.Max(pauses).Milliseconds())
		return figure, oneEach(report, times)
	}})
}

// oneEach wants at most one failure at each kill: the request that the daemon
// had accepted, which had begun at most a second before.
func oneEach(report callReport, kills []time.Time) error {
	count := make([]int, len(kills))
	for _, f := range report.Failures {
		i, _ := slices.BinarySearchFunc(kills, f.At.Add(time.Second), time.Time.Compare)
		if i == 0 {
			return fmt.Errorf("a request failed before any kill: %s", f.Error)
		}
		if count[i-1]++; count[i-1] > 1 {
			return fmt.Errorf("kill %d: %d requests failed, which may be one; the last: %s", i, count[i-1], f.Error)
		}
	}
	return nil
}

func median(all []time.Duration) time.Duration {
	return slices.Sorted(slices.Values(all))[len(all)/2]
}

// hang stops the daemon without ending it, as a loop that hangs would: systemd's
// watchdog must notice.
func (n *instance) hang(ctx context.Context) error {
	const dir = "/run/systemd/system/" + daemonUnit + ".d"
	shorten := fmt.Sprintf("mkdir -p %[1]s && printf '[Service]\\nWatchdogSec=%[2]d\\n' >%[1]s/watchdog.conf && systemctl daemon-reload && systemctl restart %[3]s",
		dir, int(hangLimit.Seconds()), daemonUnit)
	lengthen := fmt.Sprintf("rm -r %s && systemctl daemon-reload && systemctl restart %s", dir, daemonUnit)
	return n.step(ctx, step{name: "watchdog", want: instanceName, tolerate: 10, do: func() (string, error) {
		own, err := output(n.machine.Command(ctx, "systemctl", "show", "--property=WatchdogUSec", "--value", daemonUnit))
		if err != nil {
			return "", err
		}
		if own == "0" || own == "infinity" {
			return "", errors.New("the unit has no watchdog")
		}
		if _, err := output(n.machine.Command(ctx, "sh", "-c", shorten)); err != nil {
			return "", err
		}
		pid, err := n.mainPID(ctx)
		if err != nil {
			return "", err
		}
		started := time.Now()
		if _, err := output(n.machine.Command(ctx, "kill", "-STOP", pid)); err != nil {
			return "", err
		}
		for now := pid; now == pid || now == ""; now, _ = n.mainPID(ctx) { // none meanwhile
			if time.Since(started) > 5*hangLimit || ctx.Err() != nil {
				return "", fmt.Errorf("still hanging after %s\n%s", time.Since(started), n.journal(ctx))
			}
			lab.Wait(ctx, 20*time.Millisecond)
		}
		ended := time.Now() // the watchdog's part does not count
		pause, err := n.answer(ctx, ended)
		if err != nil {
			return "", err
		}
		pause += ended.Sub(started)
		said, err := output(n.machine.Command(ctx, "journalctl", "--no-pager", "--output=cat", "--unit="+daemonUnit, "--since=-1min"))
		if err != nil {
			return "", err
		}
		if !strings.Contains(said, "Watchdog timeout") {
			return "", fmt.Errorf("it was not the watchdog that ended the daemon:\n%s", said)
		}
		if _, err := output(n.machine.Command(ctx, "sh", "-c", lengthen)); err != nil {
			return "", err
		}
		return fmt.Sprintf("with WatchdogSec=%d s (the unit's: %s), answered %.1f s after the daemon hung", int(hangLimit.Seconds()), own, pause.Seconds()), n.settle(ctx)
	}})
}

// upgrade goes to the newer package and back, under load.
func (n *instance) upgrade(ctx context.Context) error {
	change := func(name, packages string) error {
		return n.step(ctx, step{name: name, want: instanceName, do: func() (string, error) {
			found, err := filepath.Glob(filepath.Join(bucketDir(n.dir), packages, "*.deb"))
			if err != nil || len(found) != 1 {
				return "", errors.Join(err, errors.New("no package"))
			}
			inside := "/tmp/" + filepath.Base(found[0])
			data, err := os.ReadFile(found[0])
			if err == nil {
				err = os.WriteFile(n.machine.Path(inside), data, 0o644)
			}
			if err != nil {
				return "", err
			}
			before, err := n.mainPID(ctx)
			if err != nil {
				return "", err
			}
			var took time.Duration
			report, err := n.underLoad(ctx, func() error {
				started := time.Now()
				_, err := output(n.machine.Command(ctx, "dpkg", "--install", inside))
				took = time.Since(started)
				return errors.Join(err, os.Remove(n.machine.Path(inside)))
			})
			if err != nil {
				return "", err
			}
			after, err := n.mainPID(ctx)
			if err != nil {
				return "", err
			}
			version, err := output(n.machine.Command(ctx, fmt.Sprintf("/proc/%s/exe", after), "version"))
			switch {
			case err != nil:
			case before == after:
				err = errors.New("the old daemon runs on")
			case !strings.Contains(filepath.Base(inside), strings.TrimPrefix(version, "nbidentityd ")):
				err = fmt.Errorf("after installing %s, %s runs", filepath.Base(inside), version)
			case len(report.Failures) > 0:
				err = fmt.Errorf("%d requests failed; the first: %s", len(report.Failures), report.Failures[0].Error)
			}
			return fmt.Sprintf("%s runs; dpkg took %.1f s, under load: %d of %d requests failed, slowest %d ms", version, took.Seconds(),
				len(report.Failures), report.Calls, report.Slowest.Milliseconds()), err
		}})
	}
	return errors.Join(change("upgrade", "new"), change("downgrade", "old"))
}

// rebuild stops the instance and starts it as the platform does, on a new root
// file system, with the user's volume.
func (n *instance) rebuild(ctx context.Context) error {
	err := n.step(ctx, step{name: "stop, start", free: true, do: func() (string, error) {
		old := n.machine.Root
		started := time.Now()
		if err := n.machine.Stop(ctx); err != nil {
			return "", err
		}
		stopped := time.Since(started)
		if err := remove(old); err != nil {
			return "", err
		}
		if err := n.newRoot(ctx); err != nil {
			return "", err
		}
		if err := n.machine.Start(ctx); err != nil {
			return "", err
		}
		if _, err := os.Stat(n.machine.Path("/usr/bin/nbidentityd")); err == nil {
			return "", errors.New("the new file system is not new")
		}
		if err := n.settle(ctx); err != nil {
			return "", err
		}
		var err error
		n.before, err = n.inventory(ctx)
		return fmt.Sprintf("stopped after %.1f s; a new file system, the user's volume as it was", stopped.Seconds()), err
	}})
	return errors.Join(err, n.start(ctx, "on-start.sh, new root"))
}

// passing are what any machine writes while it runs and what the platform and
// this test have themselves put there.
var passing = []string{
	"/proc", "/sys", "/dev", "/opt/lab", "/home/ec2-user/SageMaker", "/root/.bash_history",
	"/var/log", "/run/log", "/run/systemd", "/run/udev", "/run/host", "/run/utmp", "/tmp/systemd-private-*", "/var/tmp/systemd-private-*",
	"/var/lib/systemd", "/var/lib/dpkg/status", "/var/lib/dpkg/status-old", "/var/lib/dpkg/lock*", "/var/lib/dpkg/triggers/*",
	"/var/cache/ldconfig", "/etc/ld.so.cache",
}

// inventory notes all that an uninstall could leave: files, and by names in
// parentheses what is not a file.
func (n *instance) inventory(ctx context.Context) (inventory.Inventory, error) {
	all, err := inventory.Take(n.machine.Path("/"), passing)
	if err != nil {
		return nil, err
	}
	const sorted = " | sort -u"
	for name, script := range map[string]string{
		"(units)":               "systemctl list-unit-files --no-legend --plain; systemctl list-units --all --no-legend --plain --type=service,socket | awk '{print $1}'",
		"(manager environment)": "systemctl show-environment",
		"(login environment)":   "runuser --login ec2-user --command env",
		"(Jupyter's environment)": "tr '\\0' '\\n' </proc/$(systemctl show --property=MainPID --value jupyter-server.service)/environ" +
			" | grep -v -e ^INVOCATION_ID= -e ^JOURNAL_STREAM= -e ^SYSTEMD_EXEC_PID=",
		"(processes)": "ps -e -o comm= | grep -v -e ^kworker -e ^ps$ -e ^sh$ -e ^sort$ -e ^nsenter$",
		"(sockets)":   "ss --no-header --listening --tcp --udp --numeric | awk '{print $1, $5}'; ss --no-header --listening --unix | awk '{print $5}'",
		"(users)":     "getent passwd; getent group",
	} {
		if all[name], err = output(n.machine.Command(ctx, "sh", "-c", "("+script+")"+sorted)); err != nil {
			return nil, err
		}
	}
	all["(packet rules)"], err = output(n.machine.Host(ctx, "nft", "list", "ruleset"))
	return all, err
}

// uninstall removes the package, after which the machine must be as it was
// before, and its calls the platform's.
func (n *instance) uninstall(ctx context.Context) error {
	return n.step(ctx, step{name: "uninstall", free: true, do: func() (string, error) {
		started := time.Now()
		said, err := output(n.machine.Command(ctx, "dpkg", "--purge", "nbidentityd"))
		if err != nil {
			return "", err
		}
		took := time.Since(started)
		if _, err := output(n.machine.Command(ctx, "systemctl", "restart", "jupyter-server.service")); err != nil {
			return "", err
		}
		if err := n.settle(ctx); err != nil {
			return "", fmt.Errorf("%w\n%s", err, said)
		}
		arn, err := n.boto3(ctx)
		if err == nil && !strings.HasSuffix(arn, "/"+lab.PlatformName) {
			err = fmt.Errorf("a call is still made as %s", arn)
		}
		if err != nil {
			return "", err
		}
		after, err := n.inventory(ctx)
		if err != nil {
			return "", err
		}
		if left := inventory.Compare(n.before, after); len(left) > 0 {
			err = fmt.Errorf("%d traces:\n%s\ndpkg said: %s", len(left), strings.Join(left[:min(20, len(left))], "\n"), said)
		}
		return fmt.Sprintf("%.1f s; %d files, the packet rules and environments compared: calls are the platform's again, no trace", took.Seconds(), len(after)), err
	}})
}
