package sidecar

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"testing"
	"time"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/notebookuser"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// A user who may mount file systems that others see (user_allow_other in
// /etc/fuse.conf), or a network's home, must not keep the daemon from the others,
// nor from ending.
func TestHomeThatHangs(t *testing.T) {
	t.Parallel()
	hung, well := t.TempDir(), t.TempDir()
	hang(t, hung)
	if err := os.Chown(well, 1001, 1001); err != nil {
		t.Fatal(err)
	}
	set := settings.Default()
	set.StateDir, set.Guard.Lock = t.TempDir(), false
	if err := os.Chmod(set.StateDir, 0o700); err != nil {
		t.Fatal(err)
	}
	d := &Daemon{Config: Config{Settings: set, Log: zap.NewNop()}, users: []notebookuser.User{
		{Name: "hung", UID: 1000, GID: 1000, Home: hung}, {Name: "well", UID: 1001, GID: 1001, Home: well}}}
	ctx, cancel := context.WithCancel(t.Context())
	group, ctx := errgroup.WithContext(ctx)
	d.keepConfigs(ctx, group, identity.Notebook{Surface: identity.SurfaceNotebookInstance, Region: "us-east-1"})
	config := filepath.Join(well, ".aws", "config") // written by now, or soon: a disk may be slow
	_, err := os.Stat(config)
	for end := time.Now().Add(time.Minute); err != nil && time.Now().Before(end); _, err = os.Stat(config) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Error("the other user's configuration:", err)
	}
	guard, err := d.guardOf(1000)
	if err != nil {
		t.Fatal(err)
	}
	if s := guard.State(); s.Written {
		t.Errorf("the hung home's state = %+v, want nothing written", s)
	}
	cancel()
	if err := group.Wait(); err != nil {
		t.Error(err)
	}
}

// hang mounts a file system that answers nobody until the test's end.
func hang(t *testing.T, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("TestHomeThatHangs: a file system that hangs takes root")
	}
	fuse, err := os.OpenFile("/dev/fuse", os.O_RDWR, 0)
	if err != nil {
		t.Skip("TestHomeThatHangs: no file system can be made to hang here:", err)
	}
	options := fmt.Sprintf("fd=%d,rootmode=40000,user_id=1000,group_id=1000,allow_other", fuse.Fd())
	if err := unix.Mount("hang", dir, "fuse", 0, options); err != nil {
		fuse.Close()
		t.Skip("TestHomeThatHangs: no file system can be made to hang here:", err)
	}
	t.Cleanup(func() {
		if err := errors.Join(fuse.Close(), unix.Unmount(dir, unix.MNT_DETACH)); err != nil { // ends what waits
			t.Error(err)
		}
		// What had been given up goes on now, and may still write: wait for its end.
		for stacks := make([]byte, 1<<20); bytes.Contains(stacks[:runtime.Stack(stacks, true)], []byte("sidecar.abandon.func")); {
			time.Sleep(time.Millisecond)
		}
	})
}
