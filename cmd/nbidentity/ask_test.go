package main

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"
)

// outcome is what an SDK sees of a call.
type outcome struct {
	stdout, stderr string
	code           int
	took           time.Duration
}

func ask1(t *testing.T, args ...string) outcome {
	t.Helper()
	cmd := exec.Command("nbidentity", args...)
	var stdout, stderr strings.Builder
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	begin := time.Now()
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatal(err)
	}
	return outcome{stdout.String(), stderr.String(), cmd.ProcessState.ExitCode(), time.Since(begin)}
}

// The deadline is 3.5 s, which TestLimit checks; the rest is for a busy machine
// that starts and ends a process under the race detector. What must come at once
// is told by how often the daemon was asked, or in this process.
const atMost = 30 * time.Second

func TestLimit(t *testing.T) {
	if limit > int64(3500*time.Millisecond) {
		t.Errorf("the client takes up to %v: with its start that is over 4 s", time.Duration(limit))
	}
}

// failed wants a failure as the SDKs need it.
func (o outcome) failed(t *testing.T, code string, atLeast time.Duration) {
	t.Helper()
	if o.code != 1 || o.stdout != "" {
		t.Errorf("exit %d, stdout %q", o.code, o.stdout)
	}
	line, rest, _ := strings.Cut(o.stderr, "\n")
	if !strings.HasPrefix(line, "nbidentity: "+code+": ") || rest != "" || len(o.stderr) > 300 {
		t.Errorf("stderr %q, want one line with %q", o.stderr, code)
	}
	for _, c := range []byte(line) {
		if c < ' ' || c > '~' {
			t.Errorf("stderr %q holds %q", o.stderr, c)
		}
	}
	if o.took < atLeast || o.took > atMost {
		t.Errorf("took %v, want %v to %v", o.took, atLeast, atMost)
	}
}

func (o outcome) succeeded(t *testing.T) {
	t.Helper()
	if o.code != 0 || o.stdout != want || o.stderr != "" {
		t.Errorf("exit %d, stdout %q, stderr %q", o.code, o.stdout, o.stderr)
	}
	if o.took > atMost {
		t.Errorf("took %v", o.took)
	}
}

// daemon answers each connection, in order, by do(its number, connection), and
// counts them.
func daemon(t *testing.T, do func(n int, c net.Conn)) (path string, asked *atomic.Int32) {
	t.Helper()
	asked = new(atomic.Int32)
	path = filepath.Join(shortDir(t), "s")
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for n := 0; ; n++ {
			c, err := l.Accept()
			if err != nil {
				return
			}
			asked.Add(1)
			do(n, c)
			c.Close()
		}
	}()
	t.Cleanup(func() { l.Close(); <-done })
	return path, asked
}

// say reads a request and answers text.
func say(text string) func(int, net.Conn) {
	return func(_ int, c net.Conn) {
		readRequest(c)
		io.WriteString(c, text)
	}
}

func readRequest(c net.Conn) {
	r := bufio.NewReader(c)
	for {
		line, err := r.ReadString('\n')
		if err != nil || line == "\r\n" {
			return
		}
	}
}

// untilGone waits for the other side to give up.
func untilGone(c net.Conn) { io.Copy(io.Discard, c) }

func refusal(code, message string) string {
	return "HTTP/1.1 503 Service Unavailable\r\nNbidentity-Error: " + code + "\r\nNbidentity-Message: " + message + "\r\nContent-Length: 0\r\n\r\n"
}

func TestBadDaemon(t *testing.T) {
	const full, atOnce = 3 * time.Second, 0
	tests := []struct {
		name  string
		do    func(int, net.Conn)
		code  string
		least time.Duration
	}{
		{"says nothing", func(_ int, c net.Conn) { untilGone(c) }, "timeout", full},
		{"half an answer, then nothing", func(_ int, c net.Conn) { io.WriteString(c, ok(want)[:150]); untilGone(c) }, "timeout", full},
		{"half an answer, then the end", func(_ int, c net.Conn) { readRequest(c); io.WriteString(c, ok(want)[:150]) }, "no_answer", full},
		{"hangs up", func(_ int, c net.Conn) {}, "no_answer", full},
		{"dribbles", func(_ int, c net.Conn) {
			for {
				if _, err := io.WriteString(c, "H"); err != nil {
					return
				}
				time.Sleep(10 * time.Millisecond)
			}
		}, "timeout", full},
		{"is endless", func(_ int, c net.Conn) {
			for {
				if _, err := io.WriteString(c, strings.Repeat("x", 4096)); err != nil {
					return
				}
			}
		}, "bad_answer", atOnce},
		{"garbage", say("\x00\xff\x1b[2J\r\n\r\n"), "bad_answer", atOnce},
		{"too large", say(ok(strings.Repeat("x", maxCredentials+1))), "bad_answer", atOnce},
		{"not a credential", say(ok("{}\n")), "bad_answer", atOnce},
		{"trailing newline missing", say(ok(strings.TrimSuffix(want, "\n"))), "bad_answer", atOnce},
		{"two credentials", say(ok(want + want)), "bad_answer", atOnce},
		{"refusal without a reason", say("HTTP/1.1 500 X\r\nContent-Length: 0\r\n\r\n"), "bad_answer", atOnce},
		{"redirect", say("HTTP/1.1 307 X\r\nLocation: http://192.0.2.1/\r\nContent-Length: 0\r\n\r\n"), "bad_answer", atOnce},
		{"refusal", say(refusal("throttled", "STS asks us to slow down")), "throttled", atOnce},
		{"hostile refusal", say(refusal("x\x1b[2J", "\x1b]0;t\x07"+strings.Repeat("é", 2000))), "bad_answer", atOnce},
		{"long refusal", say(refusal("failed", strings.Repeat("\x1bm", 1000))), "failed", atOnce},
		{"never ready", say(refusal("not_ready", "wait")), "not_ready", full},
		{"always busy", say(refusal("busy", "too many")), "busy", full},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			path, asked := daemon(t, tt.do)
			ask1(t, "--socket", path, "credentials").failed(t, tt.code, tt.least)
			if n := asked.Load(); n != 1 && tt.least == atOnce {
				t.Errorf("asked %d times", n)
			}
		})
	}
}

func TestPatience(t *testing.T) {
	t.Run("daemon that was dropping connections", func(t *testing.T) {
		t.Parallel()
		path, _ := daemon(t, func(n int, c net.Conn) {
			switch n {
			case 0:
			case 1:
				io.WriteString(c, "HTTP/1.1 2")
			case 2:
				io.WriteString(c, refusal("busy", "x"))
			case 3:
				say(refusal("not_ready", "x"))(n, c)
			default:
				say(ok(want))(n, c)
			}
		})
		ask1(t, "--socket", path, "credentials").succeeded(t)
	})
	later := func(t *testing.T, path string) {
		served := make(chan struct{})
		timer := time.AfterFunc(300*time.Millisecond, func() {
			defer close(served)
			stop, err := serve(path, newSource())
			if err != nil {
				t.Error(err)
				return
			}
			t.Cleanup(func() { stop() })
		})
		defer func() {
			if !timer.Stop() {
				<-served
			}
		}()
		ask1(t, "--socket", path, "credentials").succeeded(t)
	}
	t.Run("socket that comes later", func(t *testing.T) {
		t.Parallel()
		later(t, filepath.Join(shortDir(t), "s"))
	})
	t.Run("dead socket that is replaced", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(shortDir(t), "s")
		deadSocket(t, path)
		later(t, path)
	})
	t.Run("socket that never comes", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(shortDir(t), "s")
		ask1(t, "--socket", path, "credentials").failed(t, "no_daemon", 3*time.Second)
	})
	t.Run("dead socket, status", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(shortDir(t), "s")
		deadSocket(t, path)
		ask1(t, "--socket", path, "status").failed(t, "no_daemon", 500*time.Millisecond)
		begin := time.Now()
		if _, err := status(path, false); err == nil || time.Since(begin) > 3*time.Second {
			t.Errorf("asked for no more than a second: %v in %v", err, time.Since(begin))
		}
	})
	t.Run("no directory", func(t *testing.T) {
		t.Parallel()
		path := filepath.Join(shortDir(t), "none", "s")
		ask1(t, "--socket", path, "credentials").failed(t, "no_daemon", 0)
		begin := time.Now()
		if err := credentials(path); err == nil || time.Since(begin) > 3*time.Second {
			t.Errorf("asked again: %v in %v", err, time.Since(begin))
		}
	})
}

func deadSocket(t *testing.T, path string) {
	t.Helper()
	l, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	l.Close()
}

// A queue that is full and moves is waited for; one that stands still is not
// waited for longer than the deadline.
func TestFullBacklog(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "s")
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer syscall.Close(fd)
	if err := errors.Join(syscall.Bind(fd, &syscall.SockaddrUnix{Name: path}), syscall.Listen(fd, 0)); err != nil {
		t.Fatal(err)
	}
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	ask1(t, "--socket", path, "credentials").failed(t, "timeout", 3*time.Second)

	timer := time.AfterFunc(500*time.Millisecond, func() {
		for range 2 { // the silent one, then the caller
			nfd, _, err := syscall.Accept(fd)
			if err != nil {
				t.Error(err)
				return
			}
			syscall.Write(nfd, []byte(ok(want)))
			syscall.Close(nfd)
		}
	})
	defer timer.Stop()
	ask1(t, "--socket", path, "credentials").succeeded(t)
}

// child starts this test program in another role, as uid if that is not 0, and
// returns its output after "ready".
func child(t *testing.T, uid uint32, role string, args ...string) (*os.Process, *bufio.Reader) {
	t.Helper()
	// Not a copy: while it is being written a test beside this one may start a
	// process, which holds it open, and the kernel does not run what is open.
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Args[0] = role
	if uid != 0 {
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cmd.Process.Kill(); cmd.Wait() })
	r := bufio.NewReader(out)
	if line, _ := r.ReadString('\n'); line != "ready\n" {
		t.Fatalf("%s: %q", role, line)
	}
	return cmd.Process, r
}

func TestStoppedDaemon(t *testing.T) {
	t.Parallel()
	path := filepath.Join(shortDir(t), "s")
	process, _ := child(t, 0, "testdaemon", path)
	ask1(t, "--socket", path, "credentials").succeeded(t)
	if err := process.Signal(syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	ask1(t, "--socket", path, "credentials").failed(t, "timeout", 3*time.Second)
	if err := process.Signal(syscall.SIGCONT); err != nil {
		t.Fatal(err)
	}
	ask1(t, "--socket", path, "credentials").succeeded(t)
	if err := process.Kill(); err != nil {
		t.Fatal(err)
	}
	ask1(t, "--socket", path, "status").failed(t, "no_daemon", 500*time.Millisecond)
}

// Another user's process in a directory that is not its own is not believed,
// nor even asked.
func TestSquatter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to squat as another uid")
	}
	t.Parallel()
	dir := shortDir(t)
	if err := os.Chmod(dir, 0o777|os.ModeSticky); err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "s")
	_, out := child(t, 1500, "testraw", path)
	ask1(t, "--socket", path, "credentials").failed(t, "untrusted_daemon", 0)
	ask1(t, "--socket", path, "status").failed(t, "untrusted_daemon", 0)
	if line, _ := out.ReadString('\n'); line != "got 0\n" {
		t.Errorf("the squatter %s", line)
	}

	// A daemon of a uid of its own, in its own directory, is believed.
	own := shortDir(t)
	if err := errors.Join(os.Chmod(own, 0o755), os.Chown(own, 1500, 1500)); err != nil {
		t.Fatal(err)
	}
	path = filepath.Join(own, "s")
	child(t, 1500, "testraw", path)
	ask1(t, "--socket", path, "credentials").succeeded(t)
}

func TestOutput(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	stop, err := serve(path, newSource())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	command := func() (*exec.Cmd, *strings.Builder) {
		cmd := exec.Command("nbidentity", "--socket", path, "credentials")
		var stderr strings.Builder
		cmd.Stderr = &stderr
		return cmd, &stderr
	}
	t.Run("one write", func(t *testing.T) {
		// A packet socket keeps writes apart.
		fds, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC, 0)
		if err != nil {
			t.Fatal(err)
		}
		r, w := os.NewFile(uintptr(fds[0]), "r"), os.NewFile(uintptr(fds[1]), "w")
		defer r.Close()
		cmd, _ := command()
		cmd.Stdout = w
		err = cmd.Run()
		w.Close()
		if err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 1<<16)
		if n, err := r.Read(buf); err != nil || string(buf[:n]) != want {
			t.Errorf("first packet %q, %v", buf[:n], err)
		}
	})
	t.Run("stdin is left alone", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		defer r.Close()
		fmt.Fprint(w, "unread")
		w.Close()
		cmd, _ := command()
		cmd.Stdin = r
		if out, err := cmd.Output(); err != nil || string(out) != want {
			t.Errorf("%q, %v", out, err)
		}
		if rest, err := io.ReadAll(r); err != nil || string(rest) != "unread" {
			t.Errorf("left on stdin: %q, %v", rest, err)
		}
	})
	broken := func(t *testing.T, stdout *os.File) {
		cmd, stderr := command()
		cmd.Stdout = stdout
		if err := cmd.Run(); cmd.ProcessState == nil || cmd.ProcessState.ExitCode() != 1 {
			t.Errorf("%v", err)
		}
		if !strings.HasPrefix(stderr.String(), "nbidentity: output: ") {
			t.Errorf("stderr %q", stderr)
		}
	}
	t.Run("nobody reads", func(t *testing.T) {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		r.Close()
		defer w.Close()
		broken(t, w)
	})
	t.Run("full", func(t *testing.T) {
		f, err := os.OpenFile("/dev/full", os.O_WRONLY, 0)
		if err != nil {
			t.Skip("needs /dev/full: " + err.Error())
		}
		defer f.Close()
		broken(t, f)
	})
}

// A flood of callers that say nothing does not keep an SDK waiting.
func TestFlood(t *testing.T) {
	path := filepath.Join(shortDir(t), "s")
	stop, err := serve(path, newSource())
	if err != nil {
		t.Fatal(err)
	}
	defer stop()
	for range 2000 {
		c, err := net.Dial("unix", path)
		if errors.Is(err, syscall.EAGAIN) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		io.WriteString(c, "GET /v1/credentials HTTP/1.1\r\nX: ")
	}
	for range 10 {
		ask1(t, "--socket", path, "credentials").succeeded(t)
	}
}
