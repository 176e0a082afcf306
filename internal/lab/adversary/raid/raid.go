// Package raid is the adversary's own programs: what a shell cannot do.
package raid

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

const (
	tokenPath = "/latest/api/token"
	rolesPath = "/latest/meta-data/iam/security-credentials/"
)

// Run is one of the programs, by its name and arguments.
func Run(ctx context.Context, args []string) error {
	if len(args) < 2 {
		return errors.New("raid: want a name and its arguments")
	}
	name, arg, more := args[0], args[1], ""
	if len(args) > 2 {
		more = args[2]
	}
	switch name {
	case "ask": // ask BASE SOCKET: credentials by a socket of that kind
		return ask(ctx, arg, more)
	case "keep": // keep BASE: a connection opened now, used after a line on stdin
		return keep(ctx, arg)
	case "bind": // bind ADDRESS
		return bind(arg)
	case "trace": // trace PID
		return trace(arg)
	case "hold": // hold SOCKET: silent, half-open, slow and oversized requests until killed
		return hold(ctx, arg, perDoor)
	case "throng": // throng SOCKET: the same, 10,000 of them
		return hold(ctx, arg, throng)
	case "flood": // flood SOCKET: whole requests, as many as go, until killed
		return flood(ctx, arg)
	case "spin": // spin SOCKET: as many processors as the others can take, and nothing else
		return spin(ctx)
	case "measure": // measure SOCKET NBIDENTITY: p99 of fetching credentials, in nanoseconds
		return measure(ctx, arg, more)
	case "swap": // swap DIR OUTSIDE: DIR/.aws and its config change all the time
		return swap(ctx, arg, more)
	}
	return fmt.Errorf("raid: there is no %q", name)
}

// dialer makes a kind of TCP socket that a packet rule might overlook.
func dialer(kind string) (*net.Dialer, error) {
	d := &net.Dialer{Timeout: 5 * time.Second}
	option := func(set func(fd int) error) {
		d.Control = func(_, _ string, c syscall.RawConn) error {
			var err error
			if outer := c.Control(func(fd uintptr) { err = set(int(fd)) }); outer != nil {
				return outer
			}
			return err
		}
	}
	switch kind {
	case "plain":
	case "mptcp":
		d.SetMultipathTCP(true)
	case "fastopen":
		option(func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_FASTOPEN_CONNECT, 1) })
	case "device":
		option(func(fd int) error { return unix.BindToDevice(fd, "eth0") })
	case "freebind":
		option(func(fd int) error { return unix.SetsockoptInt(fd, unix.IPPROTO_IP, unix.IP_FREEBIND, 1) })
		d.LocalAddr = &net.TCPAddr{IP: net.IPv4(169, 254, 169, 253)}
	case "privileged": // what root's own programs would look like
		d.LocalAddr = &net.TCPAddr{Port: 1023}
	default:
		return nil, fmt.Errorf("raid: there is no socket %q", kind)
	}
	return d, nil
}

func ask(ctx context.Context, base, kind string) error {
	d, err := dialer(kind)
	if err != nil {
		return err
	}
	c := imds{base: base, http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: d.DialContext}}}
	if err := c.open(ctx); err != nil {
		return err
	}
	return c.print(ctx)
}

// keep has one connection and never opens a second.
func keep(ctx context.Context, base string) error {
	var once sync.Once
	d := net.Dialer{Timeout: 5 * time.Second}
	dial := func(ctx context.Context, network, addr string) (nc net.Conn, err error) {
		err = errors.New("the old connection is gone")
		once.Do(func() { nc, err = d.DialContext(ctx, network, addr) })
		return nc, err
	}
	c := imds{base: base, http: &http.Client{Timeout: 5 * time.Second, Transport: &http.Transport{DialContext: dial}}}
	if err := c.open(ctx); err != nil {
		return err
	}
	fmt.Fprintln(os.Stderr, "open")
	if _, err := os.Stdin.Read(make([]byte, 1)); err != nil && err != io.EOF {
		return err
	}
	return c.print(ctx)
}

// imds asks as SDKs do.
type imds struct {
	base  string
	http  *http.Client
	token string
}

func (c *imds) do(ctx context.Context, method, path, header, value string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(header, value)
	resp, err := c.http.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s %s: %s", method, path, resp.Status)
	}
	return string(body), err
}

func (c *imds) open(ctx context.Context) (err error) {
	c.token, err = c.do(ctx, http.MethodPut, tokenPath, "X-aws-ec2-metadata-token-ttl-seconds", "300")
	return err
}

func (c *imds) print(ctx context.Context) error {
	role, err := c.do(ctx, http.MethodGet, rolesPath, "X-aws-ec2-metadata-token", c.token)
	if err != nil {
		return err
	}
	document, err := c.do(ctx, http.MethodGet, rolesPath+role, "X-aws-ec2-metadata-token", c.token)
	if err != nil {
		return err
	}
	_, err = fmt.Println(document)
	return err
}

func bind(address string) error {
	network := "tcp"
	if strings.HasPrefix(address, "/") {
		network = "unix"
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return err
	}
	return l.Close()
}

func trace(arg string) error {
	pid, err := strconv.Atoi(arg)
	if err != nil {
		return err
	}
	runtime.LockOSThread() // the tracer is a thread
	defer runtime.UnlockOSThread()
	if err := unix.PtraceAttach(pid); err != nil {
		return fmt.Errorf("ptrace: %w", err)
	}
	return unix.PtraceDetach(pid)
}

// doors are where the daemon listens.
func doors(socket string) map[string]string {
	return map[string]string{socket: "unix", "127.0.0.1:937": "tcp", "127.0.0.1:938": "tcp", "[::1]:938": "tcp"}
}

// Connections at a time to each of the doors.
const (
	perDoor = 100
	throng  = 2500
)

// hold keeps connections with part of a request, or none, on every door.
func hold(ctx context.Context, socket string, conns int) error {
	const begin = "GET /v1/credentials HTTP/1.1\r\nHost: 127.0.0.1\r\n"
	says := []string{"", begin + "X-Slow: ", begin + "Content-Length: 100000\r\n\r\nx", begin + "X-Large: " + strings.Repeat("x", 64<<10)}
	return each(ctx, socket, conns, func(nc net.Conn, i int) {
		io.WriteString(nc, says[i%len(says)])
		io.Copy(io.Discard, nc) // until the daemon has had enough of it
	})
}

// flood asks on every door as fast as answers come. Half of the requests are
// such as the metadata service answers.
func flood(ctx context.Context, socket string) error {
	const end = " HTTP/1.1\r\nHost: 127.0.0.1\r\nX-aws-ec2-metadata-token-ttl-seconds: 60\r\nConnection: close\r\n\r\n"
	return each(ctx, socket, perDoor, func(nc net.Conn, i int) {
		if i%2 == 0 && nc.RemoteAddr().Network() == "tcp" {
			io.WriteString(nc, "PUT "+tokenPath+end)
		} else {
			io.WriteString(nc, "GET /v1/credentials"+end)
		}
		io.Copy(io.Discard, nc)
	})
}

func spin(ctx context.Context) error {
	for range runtime.GOMAXPROCS(0) {
		go func() {
			for ctx.Err() == nil {
			}
		}()
	}
	<-ctx.Done()
	return nil
}

// each uses connections to every door, one after the other, many at a time.
func each(ctx context.Context, socket string, conns int, use func(nc net.Conn, i int)) error {
	var all sync.WaitGroup
	for address, network := range doors(socket) {
		for i := range conns {
			all.Go(func() {
				for ctx.Err() == nil {
					nc, err := net.DialTimeout(network, address, time.Second)
					if err != nil {
						lab.Wait(ctx, 10*time.Millisecond)
						continue
					}
					stop := context.AfterFunc(ctx, func() { nc.Close() })
					use(nc, i)
					stop()
					nc.Close()
				}
			})
		}
	}
	all.Wait()
	return nil
}

// Samples are how many fetches measure makes: the last but one is the p99.
const Samples = 100

// measure prints the time that 99 % of the fetches stay under. Any failure is
// one of the whole.
func measure(ctx context.Context, socket, program string) error {
	var took []time.Duration
	for range Samples {
		started := time.Now()
		if out, err := exec.CommandContext(ctx, program, "--socket", socket, "credentials").CombinedOutput(); err != nil {
			return fmt.Errorf("credentials: %w: %s", err, out)
		}
		took = append(took, time.Since(started))
	}
	slices.Sort(took)
	_, err := fmt.Println(int64(took[Samples*99/100-1]))
	return err
}

// swap makes whoever writes to home/.aws/config by its path write to outside,
// at some moment or other.
func swap(ctx context.Context, home, outside string) error {
	dir, away := filepath.Join(home, ".aws"), filepath.Join(home, ".away")
	file := filepath.Join(dir, "config")
	for ctx.Err() == nil {
		// Most of these fail at most moments. That is the point.
		_ = os.Remove(file)
		_ = os.Symlink(filepath.Join(outside, "config"), file)
		_ = os.Rename(dir, away)
		_ = os.Symlink(outside, dir)
		_ = os.Remove(dir)
		_ = os.Link(filepath.Join(home, "own"), filepath.Join(away, "config.new"))
		_ = os.Rename(away, dir)
		_ = os.RemoveAll(away)
	}
	return nil
}
