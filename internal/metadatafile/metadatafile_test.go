package metadatafile

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"go.uber.org/zap/zaptest/observer"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const metadataText = `{"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/alice-nb", "ResourceName": "alice-nb"}`

func writeFile(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Error(err)
	}
}

// idle is a watcher that never sees anything.
func idle(ctx context.Context, _ string, _ func()) error {
	<-ctx.Done()
	return nil
}

type outcome struct {
	nb  identity.Notebook
	err error
}

func TestWaitThere(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.json")
	writeFile(t, path, metadataText)
	never := func(context.Context, string, func()) error { t.Error("watched"); return nil }
	nb, err := wait(t.Context(), path, time.Hour, zap.NewNop(), never)
	if err != nil || nb.InstanceName != "alice-nb" {
		t.Errorf("got %+v, %v", nb, err)
	}
}

func TestWaitLimit(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(t *testing.T, path string){
		"no directory": func(*testing.T, string) {},
		"file for directory": func(t *testing.T, path string) {
			writeFile(t, filepath.Dir(path), "x")
		},
		"half-written": func(t *testing.T, path string) {
			if err := os.Mkdir(filepath.Dir(path), 0o700); err != nil {
				t.Fatal(err)
			}
			writeFile(t, path, metadataText[:50])
		},
	} {
		for _, limit := range []time.Duration{0, 90 * time.Second} {
			dir := t.TempDir()
			synctest.Test(t, func(t *testing.T) {
				path := filepath.Join(dir, "metadata", "m.json")
				prepare(t, path)
				start := time.Now()
				_, err := wait(t.Context(), path, limit, zap.NewNop(), idle)
				var problem *awscause.Error
				if !errors.As(err, &problem) || problem.Code() != CodeNoMetadata || problem.Remedy() == "" ||
					!strings.Contains(err.Error(), path) || !strings.Contains(err.Error(), "waited "+limit.String()) {
					t.Errorf("%s: got error %v", name, err)
				}
				if took := time.Since(start); took != limit {
					t.Errorf("%s: took %s, want %s", name, took, limit)
				}
			})
		}
	}
}

func TestWaitByPollAlone(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		path := filepath.Join(dir, "m.json")
		time.AfterFunc(9*time.Second, func() { writeFile(t, path, metadataText[:50]) })
		time.AfterFunc(19*time.Second, func() { writeFile(t, path, metadataText) })
		core, logs := observer.New(zapcore.InfoLevel)
		broken := func(context.Context, string, func()) error { return errors.New("no more inotify instances") }
		start := time.Now()
		nb, err := wait(t.Context(), path, time.Minute, zap.New(core), broken)
		if took := time.Since(start); err != nil || nb.InstanceName != "alice-nb" || took < 19*time.Second || took > 21*time.Second {
			t.Errorf("got %+v, %v after %s", nb, err, took)
		}
		if logs.FilterMessage("cannot watch for the metadata file, polling only").Len() != 1 {
			t.Errorf("logged %v", logs.All())
		}
	})
}

func TestWaitCancelled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 7*time.Second)
		defer cancel()
		_, err := wait(ctx, filepath.Join(dir, "m.json"), time.Minute, zap.NewNop(), idle)
		var problem *awscause.Error
		if !errors.Is(err, context.DeadlineExceeded) || errors.As(err, &problem) {
			t.Errorf("got error %v", err)
		}
	})
}

// A file that is complete and wrong does not become right by waiting.
func TestWaitWrongFile(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "m.json")
	writeFile(t, path, strings.Replace(metadataText, `"alice-nb"}`, `"bob-nb"}`, 1))
	if _, err := Wait(t.Context(), path, time.Hour, nil); err == nil || !strings.Contains(err.Error(), "ResourceName") {
		t.Errorf("got error %v", err)
	}
}

// These use real inotify, once by WaitForMetadata and once without its poll.
func TestWaitWatches(t *testing.T) {
	t.Parallel()
	mkdir := func(t *testing.T, path string) {
		if err := os.Mkdir(path, 0o700); err != nil {
			t.Error(err)
		}
	}
	rename := func(t *testing.T, from, to string) {
		if err := os.Rename(from, to); err != nil {
			t.Error(err)
		}
	}
	const moment = 60 * time.Millisecond // longer than settleTime
	for name, appear := range map[string]func(t *testing.T, root string){
		"directories one by one, file in pieces": func(t *testing.T, root string) {
			for _, dir := range []string{"opt", "opt/ml", "opt/ml/metadata"} {
				mkdir(t, filepath.Join(root, dir))
				time.Sleep(moment)
			}
			path := filepath.Join(root, "opt/ml/metadata/m.json")
			for n := range 4 {
				writeFile(t, path, metadataText[:n*len(metadataText)/3])
				time.Sleep(moment)
			}
		},
		"directories at once": func(t *testing.T, root string) {
			if err := os.MkdirAll(filepath.Join(root, "opt/ml/metadata"), 0o700); err != nil {
				t.Error(err)
			}
			writeFile(t, filepath.Join(root, "opt/ml/metadata/m.json"), metadataText)
		},
		"tree moved into place": func(t *testing.T, root string) {
			if err := os.MkdirAll(filepath.Join(root, "tmp/ml/metadata"), 0o700); err != nil {
				t.Error(err)
			}
			writeFile(t, filepath.Join(root, "tmp/ml/metadata/m.json"), metadataText)
			rename(t, filepath.Join(root, "tmp"), filepath.Join(root, "opt"))
		},
		"atomic replacement of a half-written file": func(t *testing.T, root string) {
			dir := filepath.Join(root, "opt/ml/metadata")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Error(err)
			}
			writeFile(t, filepath.Join(dir, "m.json"), metadataText[:20])
			time.Sleep(moment)
			writeFile(t, filepath.Join(dir, "m.json.tmp"), metadataText)
			time.Sleep(moment)
			rename(t, filepath.Join(dir, "m.json.tmp"), filepath.Join(dir, "m.json"))
		},
		"directory removed and made again": func(t *testing.T, root string) {
			dir := filepath.Join(root, "opt/ml/metadata")
			for range 3 {
				if err := os.MkdirAll(dir, 0o700); err != nil {
					t.Error(err)
				}
				time.Sleep(moment)
				if err := os.RemoveAll(filepath.Join(root, "opt")); err != nil {
					t.Error(err)
				}
			}
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Error(err)
			}
			time.Sleep(moment)
			writeFile(t, filepath.Join(dir, "m.json"), metadataText)
		},
		"directory moved away and made again": func(t *testing.T, root string) {
			dir := filepath.Join(root, "opt/ml/metadata")
			if err := os.MkdirAll(dir, 0o700); err != nil {
				t.Error(err)
			}
			time.Sleep(moment)
			rename(t, dir, dir+".old")
			mkdir(t, dir)
			time.Sleep(moment)
			writeFile(t, filepath.Join(dir, "m.json"), metadataText)
		},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			path := filepath.Join(root, "opt", "ml", "metadata", "m.json")
			done := make(chan outcome)
			go func() {
				nb, err := Wait(t.Context(), path, time.Minute, nil)
				done <- outcome{nb, err}
			}()
			told := make(chan error)
			go func() { told <- awaitByEvents(t.Context(), path) }()
			time.Sleep(moment)
			appear(t, root)
			written := time.Now()
			if err := <-told; err != nil {
				t.Error(err)
			}
			t.Logf("told %s after the file was written", time.Since(written))
			if got := <-done; got.err != nil || got.nb.InstanceName != "alice-nb" {
				t.Errorf("got %+v, %v", got.nb, got.err)
			}
		})
	}
}

// awaitByEvents waits for a good file by watchPath alone, without the poll.
func awaitByEvents(ctx context.Context, path string) error {
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	changes := make(chan struct{}, 1)
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = watchPath(ctx, path, func() {
			select {
			case changes <- struct{}{}:
			default:
			}
		})
	}()
	defer func() { cancel(); <-ended }()
	for {
		select {
		case <-changes:
			if _, err := identity.ReadFile(path); err == nil {
				return nil
			}
		case <-ended:
			return fmt.Errorf("the watcher ended, error %v", err)
		}
	}
}

// Somebody who makes events as fast as they can neither keeps the limit from
// ending the wait nor hides the file.
func TestWaitUnderEventStorm(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ctx, stop := context.WithCancel(t.Context())
	stormed := make(chan struct{})
	go func() {
		defer close(stormed)
		for ctx.Err() == nil {
			writeFile(t, filepath.Join(dir, "noise"), "x")
			os.Remove(filepath.Join(dir, "noise"))
		}
	}()
	path := filepath.Join(dir, "m.json")
	start := time.Now()
	if _, err := Wait(t.Context(), path, time.Second, nil); err == nil || time.Since(start) > 10*time.Second {
		t.Errorf("got error %v after %s", err, time.Since(start))
	}
	time.AfterFunc(300*time.Millisecond, func() { writeFile(t, path, metadataText) })
	if _, err := Wait(t.Context(), path, time.Minute, nil); err != nil {
		t.Error(err)
	}
	stop()
	<-stormed
}
