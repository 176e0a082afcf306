package lifecycle_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/lab/executable"
)

// supervised is a machine whose nbidentityd is a shell script.
func supervised(t *testing.T, daemon string) *machine {
	t.Helper()
	m := newMachine(t)
	if err := os.Mkdir(m.path("run/bin"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := executable.Write(m.path("run/bin/nbidentityd"), []byte("#!/bin/sh\n"+daemon)); err != nil {
		t.Fatal(err)
	}
	m.own()
	return m
}

// supervise starts a supervisor; wait ends when it does.
func (m *machine) supervise(shell string, env ...string) *exec.Cmd {
	m.t.Helper()
	script, err := filepath.Abs("studio/supervise.sh")
	if err != nil {
		m.t.Fatal(err)
	}
	c := exec.Command(shell, script, m.path("run"))
	c.Env = append([]string{"PATH=" + m.path("bin")}, env...)
	if err := c.Start(); err != nil {
		m.t.Fatal(err)
	}
	m.t.Cleanup(func() {
		_ = c.Process.Kill() // it may have ended
		_ = c.Wait()         // likewise
	})
	return c
}

func TestSuperviseBacksOff(t *testing.T) {
	for _, shell := range []string{"/bin/bash", "/bin/dash"} {
		t.Run(filepath.Base(shell), func(t *testing.T) {
			t.Parallel()
			m := supervised(t, "date +%s.%N >>${0%/bin/*}/starts; exit 7\n")
			c := m.supervise(needs(t, shell))
			m.until("five starts", func() bool { return strings.Count(m.read("run/starts"), "\n") == 5 })
			var at []float64
			for line := range strings.Lines(m.read("run/starts")) {
				var s float64
				if _, err := fmt.Sscan(line, &s); err != nil {
					t.Fatal(err)
				}
				at = append(at, s)
			}
			log := m.read("run/nbidentityd.log")
			for i, want := range []float64{0, 1, 2, 4} {
				said := fmt.Sprintf("ended with 7 and is started again in %.0f s\n", want)
				if got := at[i+1] - at[i]; got < want || strings.Count(log, said) != 1 {
					t.Errorf("pause %d is %.1f s, want %.0f or a little more; log:\n%s", i+1, got, want, log)
				}
			}
			if err := c.Process.Signal(syscall.SIGTERM); err != nil { // in a pause
				t.Fatal(err)
			}
			if err := c.Wait(); err != nil {
				t.Errorf("told to stop, it ended with %v", err)
			}
		})
	}
}

func TestSuperviseOne(t *testing.T) {
	t.Parallel()
	m := supervised(t, "echo started >>${0%/bin/*}/starts; exec sleep 60\n")
	first := m.supervise("/bin/sh")
	m.until("the daemon", func() bool { return m.read("run/starts") != "" })
	if err := m.supervise("/bin/sh").Wait(); err != nil {
		t.Errorf("the second supervisor ended with %v", err)
	}
	if n := strings.Count(m.read("run/starts"), "\n"); n != 1 {
		t.Errorf("%d daemons", n)
	}
	// Killed, it leaves the daemon; but not the lock with it.
	if err := first.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = first.Wait() // by a signal
	m.supervise("/bin/sh")
	m.until("the third supervisor's daemon", func() bool { return strings.Count(m.read("run/starts"), "\n") == 2 })
}

func TestSuperviseBoundsLog(t *testing.T) {
	t.Parallel()
	m := supervised(t, "while head -c 5000 /dev/zero | tr '\\000' x; do echo; sleep 0.05; done\n")
	tr, err := exec.LookPath("tr")
	if err != nil {
		t.Skip("needs tr")
	}
	if err := os.Symlink(tr, m.path("bin/tr")); err != nil {
		t.Fatal(err)
	}
	m.supervise("/bin/sh", "NBIDENTITY_LOG_LIMIT=20000")
	m.until("the log to be cut", func() bool { return m.read("run/nbidentityd.log.1") != "" })
	most := 0
	m.until("the next cut", func() bool {
		n := len(m.read("run/nbidentityd.log"))
		most = max(most, n)
		return n < most/2
	})
	if first, _, _ := strings.Cut(m.read("run/nbidentityd.log"), "\n"); strings.Contains(first, "\x00") {
		t.Error("the log has a hole: the daemon does not append")
	}
}

func TestSuperviseAside(t *testing.T) {
	t.Parallel()
	m := supervised(t, `echo '{"level":"info","msg":"stepping aside","reason":"this is SageMaker Unified Studio, so"}' >&2`+"\n")
	if err := m.supervise("/bin/sh").Wait(); err != nil {
		t.Error(err)
	}
	if got := m.read("run/aside"); got != "not needed here: this is SageMaker Unified Studio, so\n" {
		t.Errorf("aside: %q", got)
	}
}
