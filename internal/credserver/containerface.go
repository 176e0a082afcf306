package credserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/netip"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/credserver/authtoken"
	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
	"github.com/nbidentityd/nbidentityd/internal/credserver/sockowner"
)

// ContainerPath is what follows http://127.0.0.1:PORT in
// AWS_CONTAINER_CREDENTIALS_FULL_URI.
const ContainerPath = "/v1/container-credentials"

var (
	errForeignHost     = &refusal{code: "forbidden", message: "the request is for another host"}
	errToken           = &refusal{code: "unauthorized", message: "the Authorization header must be the token of the file that AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE names"}
	errForeignToken    = &refusal{code: "forbidden", message: "the token is another user's"}
	errContainerPath   = &refusal{code: "not_found", message: "the path is " + ContainerPath}
	errListenerAddress = errors.New("want a TCP listener on 127.0.0.1 or [::1]")
)

// containerFace serves container credentials: GET ContainerPath with the
// caller's own token.
type containerFace struct {
	*face
	hosts  hosts
	tokens *authtoken.Tokens
}

// ServeContainer answers SDKs that look for container credentials, on a TCP
// listener of 127.0.0.1, until ctx ends or l breaks. It closes l, and returns as
// Serve does. SDKs must be told two variables:
// AWS_CONTAINER_CREDENTIALS_FULL_URI, which is http://, l's address and
// ContainerPath; and AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE, the file that
// tokens has written for the user. A user's token opens for that user and for
// root only.
func (s *Server) ServeContainer(ctx context.Context, l net.Listener, tokens *authtoken.Tokens) error {
	f := s.newContainerFace(tokens)
	return f.serveTCP(ctx, l, netip.Prefix{}, func(port uint16) http.Handler {
		f.hosts = newHosts(port)
		return f
	})
}

func (s *Server) newContainerFace(tokens *authtoken.Tokens) containerFace {
	return containerFace{tokens: tokens, face: s.newFace(face{
		name:      "container",
		patience:  700 * time.Millisecond, // SDKs want an answer within a second
		leastLife: 15 * time.Minute,
		idle:      tcpIdle,
	})}
}

// serveTCP serves on a TCP listener with the callers that the kernel names, and
// those of the containers' network if there is one.
func (f *face) serveTCP(ctx context.Context, l net.Listener, containers netip.Prefix, handler func(port uint16) http.Handler) error {
	at, ok := l.Addr().(*net.TCPAddr)
	if !ok || at.IP.IsUnspecified() || !at.IP.IsLoopback() && !containers.IsValid() {
		return errors.Join(fmt.Errorf("serving on %s: %w", l.Addr(), errListenerAddress), l.Close())
	}
	finder, err := sockowner.Open(l)
	if err != nil {
		return errors.Join(fmt.Errorf("serving on %s: %w", l.Addr(), err), l.Close())
	}
	g := f.gate(l, containers.IsValid(), func(nc net.Conn) (caller.Caller, error) { return caller.OnTCP(finder, nc, containers) })
	return errors.Join(f.serve(ctx, g, handler(uint16(at.Port))), finder.Close())
}

func (f containerFace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := f.admitted(w, r)
	if c == nil {
		return
	}
	if !f.hosts.ours(r.Host) {
		f.refuse(w, r, http.StatusForbidden, errForeignHost)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		f.refuse(w, r, http.StatusMethodNotAllowed, errMethod)
		return
	}
	if r.ContentLength != 0 {
		f.refuse(w, r, http.StatusBadRequest, errBody)
		return
	}
	token := r.Header["Authorization"]
	if len(token) != 1 {
		f.refuse(w, r, http.StatusUnauthorized, errToken)
		return
	}
	owner, ok := f.tokens.Owner(token[0])
	switch {
	case !ok:
		f.refuse(w, r, http.StatusUnauthorized, errToken)
	case owner != c.Caller.UID && c.Caller.UID != 0:
		f.refuse(w, r, http.StatusForbidden, errForeignToken)
	case r.URL.Path != ContainerPath:
		f.refuse(w, r, http.StatusNotFound, errContainerPath)
	default:
		c.Asked()
		f.serveCredentials(w, r, c)
	}
}

func (f containerFace) serveCredentials(w http.ResponseWriter, r *http.Request, c *gate.Conn) {
	what, err := f.vend(r.Context(), c)
	if err != nil {
		f.refuse(w, r, http.StatusServiceUnavailable, err)
		return
	}
	hand(w, jsonType, what.Container)
}
