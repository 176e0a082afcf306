package credserver

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/credserver/authtoken"
	"github.com/nbidentityd/nbidentityd/internal/credserver/document"
	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
)

// BenchmarkAnswer shows what an answer of a face takes of the processor, audit
// line and client included, beside the answer of a handler that only writes the
// same bytes. Wall time says less on a machine that does other things as well.
func BenchmarkAnswer(b *testing.B) {
	for _, clients := range []int{1, 8} {
		for _, name := range []string{"unix", "container", "imds"} {
			b.Run(name+"/c="+strconv.Itoa(clients), func(b *testing.B) {
				l, request := startFace(b, name)
				measure(b, l, request, clients)
			})
			b.Run(name+"-bare/c="+strconv.Itoa(clients), func(b *testing.B) {
				l, request := startBare(b, name)
				measure(b, l, request, clients)
			})
		}
	}
}

func startBare(b *testing.B, name string) (net.Addr, string) {
	network, address := "tcp", "127.0.0.1:0"
	if name == "unix" {
		network, address = "unix", filepath.Join(shortDir(b), "b")
	}
	l, err := net.Listen(network, address)
	if err != nil {
		b.Fatal(err)
	}
	set, err := document.New(good())
	if err != nil {
		b.Fatal(err)
	}
	form := map[string]document.Form{"unix": set.Process, "container": set.Container, "imds": set.IMDS}[name]
	srv := &http.Server{Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		w.Header().Set("Content-Length", form.Length[0])
		w.Write(form.Body)
	})}
	done := make(chan error, 1)
	go func() { done <- srv.Serve(l) }()
	b.Cleanup(func() { srv.Close(); <-done })
	return l.Addr(), "GET / HTTP/1.1\r\nHost: x\r\nAuthorization: 0123456789012345678901234567890123456789012\r\n\r\n"
}

func startFace(b *testing.B, name string) (net.Addr, string) {
	file, err := os.OpenFile(filepath.Join(b.TempDir(), "log"), os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o600)
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() { file.Close() })
	enc := zap.NewProductionEncoderConfig()
	enc.EncodeTime = zapcore.RFC3339NanoTimeEncoder
	log := zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(enc), zapcore.Lock(file), zapcore.InfoLevel))
	s := New(Config{Credentials: &provider{value: good()}, Log: log})
	var l net.Listener
	var serve func(ctx context.Context) error
	request := "GET /v1/credentials HTTP/1.1\r\nHost: x\r\n\r\n"
	if name == "unix" {
		l, err = listener.Unix(filepath.Join(shortDir(b), "s"), 0o600)
		serve = func(ctx context.Context) error { return s.Serve(ctx, l) }
	} else {
		l = listenAt(b, "127.0.0.1:0")
	}
	if err != nil {
		b.Fatal(err)
	}
	tokens := authtoken.New(uint32(os.Geteuid()))
	switch name {
	case "container":
		dir := shortDir(b)
		if err := errors.Join(os.Chmod(dir, 0o755), tokens.Write(dir)); err != nil {
			b.Fatal(err)
		}
		r := &onTCP{dir: dir}
		request = "GET " + ContainerPath + " HTTP/1.1\r\nHost: " + l.Addr().String() + "\r\nAuthorization: " + r.token(b, uint32(os.Geteuid())) + "\r\n\r\n"
		serve = func(ctx context.Context) error { return s.ServeContainer(ctx, l, tokens) }
	case "imds":
		serve = func(ctx context.Context) error { return s.ServeIMDS(ctx, l, IMDSConfig{}) }
	}
	ctx, cancel := context.WithCancel(b.Context())
	done := make(chan error, 1)
	go func() { done <- serve(ctx) }()
	b.Cleanup(func() { cancel(); <-done })
	if name == "imds" {
		r := &onTCP{addr: l.Addr().String()}
		request = "GET " + rolesPath + "/nbidentityd HTTP/1.1\r\nHost: " + r.addr + "\r\n" + tokenHeader + ": " + r.imdsToken(b, "600") + "\r\n\r\n"
	}
	return l.Addr(), request
}

// measure asks b.N times by so many clients.
func measure(b *testing.B, at net.Addr, request string, clients int) {
	before := processorTime()
	b.ResetTimer()
	var all sync.WaitGroup
	for i := range clients {
		all.Go(func() {
			var c net.Conn
			var r *bufio.Reader
			for range (b.N + i) / clients {
				if c == nil {
					var err error
					if c, err = net.Dial(at.Network(), at.String()); err != nil {
						b.Error(err)
						return
					}
					r = bufio.NewReader(c)
				}
				io.WriteString(c, request)
				if _, err := skipAnswer(r); err != nil {
					b.Error(err)
					return
				}
				if at.Network() == "unix" {
					c.Close()
					c = nil
				}
			}
			if c != nil {
				c.Close()
			}
		})
	}
	all.Wait()
	b.StopTimer()
	b.ReportMetric(float64(processorTime()-before)/float64(b.N), "cpu-ns/op")
}

func skipAnswer(r *bufio.Reader) (int, error) {
	length := 0
	for {
		line, err := r.ReadSlice('\n')
		if err != nil {
			return 0, err
		}
		if len(line) == 2 {
			return r.Discard(length)
		}
		if value, ok := strings.CutPrefix(string(line), "Content-Length: "); ok {
			if length, err = strconv.Atoi(strings.TrimSpace(value)); err != nil {
				return 0, err
			}
		}
	}
}

// processorTime is what this process has used, in nanoseconds.
func processorTime() int64 {
	var u unix.Rusage
	if err := unix.Getrusage(unix.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return u.Utime.Nano() + u.Stime.Nano()
}
