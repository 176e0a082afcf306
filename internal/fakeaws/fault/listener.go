package fault

import (
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// listener stops listening while its service is to refuse connections.
type listener struct {
	set     *Set
	service string
	addr    *net.TCPAddr
	done    chan struct{} // closed by Close

	mu sync.Mutex
	// The fields below are guarded by mu.
	inner  *net.TCPListener // nil while refusing
	closed bool
}

// Listen listens on a TCP address such as "127.0.0.1:0" for a service;
// AnyService stands for a listener that serves several. While a Refuse without
// a count is set for it, nothing listens, so that the kernel itself answers
// "connection refused"; afterwards it listens on the same address again. The
// change takes place in Accept. Connections that were accepted before are not
// touched: [Set.Wrap] resets those at their next request.
func (s *Set) Listen(service, address string) (net.Listener, error) {
	addr, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		return nil, fmt.Errorf("listening for %s: %w", service, err)
	}
	inner, err := net.ListenTCP("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening for %s: %w", service, err)
	}
	return &listener{
		set: s, service: service, addr: inner.Addr().(*net.TCPAddr), done: make(chan struct{}), inner: inner,
	}, nil
}

// Addr returns the address, which stays the same while connections are refused.
func (l *listener) Addr() net.Addr { return l.addr }

// Accept waits for a connection, through times of refusal.
func (l *listener) Accept() (net.Conn, error) {
	for {
		refuse, changed := l.set.refusing(l.service)
		inner, err := l.open(!refuse)
		if err != nil {
			return nil, err
		}
		if refuse {
			select {
			case <-changed:
				continue
			case <-l.done:
				return nil, net.ErrClosed
			}
		}
		conn, err := acceptUntil(inner, changed)
		if errors.Is(err, os.ErrDeadlineExceeded) {
			continue
		}
		return conn, err
	}
}

// acceptUntil is Accept with a timeout error as soon as changed is closed.
func acceptUntil(inner *net.TCPListener, changed <-chan struct{}) (net.Conn, error) {
	if err := inner.SetDeadline(time.Time{}); err != nil {
		return nil, err
	}
	accepted, watched := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(watched)
		select {
		case <-changed:
			_ = inner.SetDeadline(time.Unix(1, 0)) // when closed, Accept ends anyway
		case <-accepted:
		}
	}()
	conn, err := inner.AcceptTCP()
	close(accepted)
	<-watched
	if err != nil {
		return nil, err
	}
	return conn, nil
}

// open makes the listener listen or not, as wanted.
func (l *listener) open(want bool) (*net.TCPListener, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return nil, net.ErrClosed
	}
	if want == (l.inner != nil) {
		return l.inner, nil
	}
	if !want {
		err := l.inner.Close()
		l.inner = nil
		return nil, err
	}
	inner, err := net.ListenTCP("tcp", l.addr)
	if err != nil {
		return nil, fmt.Errorf("listening for %s again: %w", l.service, err)
	}
	l.inner = inner
	return inner, nil
}

// Close stops listening and ends Accept.
func (l *listener) Close() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.closed {
		return net.ErrClosed
	}
	l.closed = true
	close(l.done)
	if l.inner == nil {
		return nil
	}
	return l.inner.Close()
}
