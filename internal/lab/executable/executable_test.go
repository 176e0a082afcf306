package executable

import (
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// Programs are run as soon as they are written, while others are started.
func TestWriteAndRun(t *testing.T) {
	stop := make(chan struct{})
	var starting sync.WaitGroup
	for range 4 {
		starting.Go(func() {
			for {
				select {
				case <-stop:
					return
				default:
					if err := exec.Command("/bin/true").Run(); err != nil {
						t.Error(err)
						return
					}
				}
			}
		})
	}
	path := filepath.Join(t.TempDir(), "program")
	for range 100 {
		if err := Write(path, []byte("#!/bin/sh\n")); err != nil {
			t.Error(err)
		}
		if err := exec.Command(path).Run(); err != nil {
			t.Error(err)
		}
	}
	close(stop)
	starting.Wait()
}

func TestMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "program")
	old := unix.Umask(0o077)
	err := Write(path, nil)
	unix.Umask(old)
	if err != nil {
		t.Fatal(err)
	}
	if info, err := os.Stat(path); err != nil || info.Mode() != 0o755 {
		t.Errorf("mode %v, %v", info.Mode(), err)
	}
	if err := Write(filepath.Join(path, "x"), nil); err == nil {
		t.Error("wrote below a file")
	}
}
