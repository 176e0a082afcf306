package sidecar

import (
	"context"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strconv"

	"go.uber.org/zap"
	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/basesession"
	"github.com/nbidentityd/nbidentityd/internal/credserver"
	"github.com/nbidentityd/nbidentityd/internal/credserver/authtoken"
	"github.com/nbidentityd/nbidentityd/internal/credserver/listener"
	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/supervision"
)

// faces are the listeners for SDKs that do not run the client. Each is a help,
// none is needed: one that cannot be opened is said and left out.
type faces struct {
	imds      []net.Listener // of 127.0.0.1 and, where there is IPv6, [::1]
	container net.Listener
	tokens    *authtoken.Tokens
}

func (d *Daemon) openFaces(inherited supervision.Sockets) faces {
	var f faces
	if port := d.Settings.Faces.IMDSPort; port != 0 {
		if l := d.listen(inherited, "imds", port); l != nil {
			f.imds = append(f.imds, l)
			address := net.JoinHostPort("::1", strconv.Itoa(port))
			if l6 := inherited.Take(address); l6 != nil {
				f.imds = append(f.imds, l6)
			} else if l6, err := listener.TCP("tcp6", address); err == nil {
				f.imds = append(f.imds, l6)
			}
		}
	}
	if port := d.Settings.Faces.ContainerPort; port != 0 {
		f.tokens = authtoken.New(d.uids()...)
		if err := f.tokens.Write(d.tokenDir()); err != nil {
			d.Log.Error("face of no use to some user", zap.String("face", "container"), zap.Error(err))
		}
		f.container = d.listen(inherited, "container", port)
	}
	return f
}

// tokenDir holds the users' tokens for the container face.
func (d *Daemon) tokenDir() string { return filepath.Dir(d.Settings.Socket) }

func (d *Daemon) listen(inherited supervision.Sockets, face string, port int) net.Listener {
	address := net.JoinHostPort("127.0.0.1", strconv.Itoa(port))
	if l := inherited.Take(address); l != nil {
		return l
	}
	l, err := listener.TCP("tcp4", address)
	if err != nil {
		d.Log.Error("face not opened", zap.String("face", face), zap.Error(err))
		return nil
	}
	return l
}

// serve runs the faces until ctx ends.
func (f faces) serve(ctx context.Context, group *errgroup.Group, d *Daemon, server *credserver.Server) {
	for _, l := range f.imds {
		group.Go(func() error {
			return server.ServeIMDS(ctx, l, credserver.IMDSConfig{Metadata: d.instanceMetadata, Mark: d.mark})
		})
	}
	if f.container != nil {
		group.Go(func() error {
			return errors.Join(server.ServeContainer(ctx, f.container, f.tokens), f.tokens.Remove(d.tokenDir()))
		})
	}
}

// urls lists what SDKs can be pointed at.
func (f faces) urls() []string {
	var all []string
	if len(f.imds) > 0 {
		all = append(all, "http://"+f.imds[0].Addr().String())
	}
	if f.container != nil {
		all = append(all, "http://"+f.container.Addr().String()+credserver.ContainerPath)
	}
	return all
}

// imdsPort is where the fence may redirect to, 0 when nobody is there.
func (f faces) imdsPort() uint16 {
	if len(f.imds) == 0 {
		return 0
	}
	return uint16(f.imds[0].Addr().(*net.TCPAddr).Port)
}

// instanceMetadata asks the platform's service for what is not secret. Studio
// has none.
func (d *Daemon) instanceMetadata(ctx context.Context, path string) (body []byte, contentType string, status int, err error) {
	switch d.surface() {
	case identity.SurfaceNotebookInstance:
	case "":
		return nil, "", 0, errors.New("asking instance metadata: it is not known yet whether this machine has any")
	default:
		return nil, "", http.StatusNotFound, nil
	}
	return basesession.Metadata(ctx, d.Settings.Endpoints.IMDS, path)
}
