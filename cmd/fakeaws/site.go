package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/localca"
)

// ready is the ready file: where everything listens.
type ready struct {
	PID            int               `json:"pid"`
	Account        string            `json:"account_id"`
	Region         string            `json:"region"`
	API            string            `json:"api,omitempty"`             // URL
	TLS            string            `json:"tls,omitempty"`             // URL
	CAFile         string            `json:"ca_file,omitempty"`         // absolute path
	IMDS           map[string]string `json:"imds,omitempty"`            // notebook → URL
	Container      string            `json:"container,omitempty"`       // URL without a path
	ContainerPaths map[string]string `json:"container_paths,omitempty"` // app → path
	Admin          string            `json:"admin,omitempty"`           // URL
}

// site is a set of listeners with their handlers.
type site struct {
	ready    ready
	account  *fakeaws.Account
	allowAny bool
	servers  []server
}

type server struct {
	listener net.Listener
	http     *http.Server
}

// open listens everywhere. On failure nothing stays open.
func open(account *fakeaws.Account, o options) (s *site, err error) {
	s = &site{account: account, allowAny: o.allowAny, ready: ready{PID: os.Getpid(), IMDS: map[string]string{}}}
	defer func() {
		if err != nil {
			err = errors.Join(err, s.close())
		}
	}()
	s.ready.Account, s.ready.Region = account.ID(), account.Region()
	if s.ready.API, err = s.add(fault.AnyService, o.api, account.API()); err != nil {
		return s, err
	}
	if err := s.addTLS(o); err != nil {
		return s, err
	}
	for _, e := range o.imds {
		h, err := account.IMDS(e.notebook)
		if err != nil {
			return s, err
		}
		if s.ready.IMDS[e.notebook], err = s.add("imds", e.addr, h); err != nil {
			return s, err
		}
	}
	if s.ready.Container, err = s.add("container", o.container, account.Container()); err != nil {
		return s, err
	}
	if s.ready.Container != "" {
		s.ready.ContainerPaths = account.ContainerPaths()
	}
	s.ready.Admin, err = s.add("", o.admin, account.Admin())
	return s, err
}

// listen opens addr for a service, as which faults can close it; "" is a
// listener that no fault touches.
func (s *site) listen(service, addr string) (net.Listener, error) {
	if !s.allowAny {
		if err := checkAddress(addr); err != nil {
			return nil, err
		}
	}
	if service != "" {
		return s.account.Faults.Listen(service, addr)
	}
	l, err := net.Listen("tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("listening: %w", err)
	}
	return l, nil
}

// add listens on addr and returns the URL; an empty addr adds nothing.
func (s *site) add(service, addr string, h http.Handler) (string, error) {
	if addr == "" {
		return "", nil
	}
	l, err := s.listen(service, addr)
	if err != nil {
		return "", err
	}
	s.servers = append(s.servers, newServer(l, h))
	return "http://" + l.Addr().String(), nil
}

func (s *site) addTLS(o options) error {
	if o.tls == "" && o.caFile == "" {
		return nil
	}
	ca, err := localca.New()
	if err != nil {
		return err
	}
	if o.caFile != "" {
		if s.ready.CAFile, err = filepath.Abs(o.caFile); err != nil {
			return fmt.Errorf("placing authority: %w", err)
		}
		if err := replace(o.caFile, ca.PEM()); err != nil {
			return fmt.Errorf("writing authority: %w", err)
		}
	}
	if o.tls == "" {
		return nil
	}
	l, err := s.listen(fault.AnyService, o.tls)
	if err != nil {
		return err
	}
	s.ready.TLS = "https://" + l.Addr().String()
	s.servers = append(s.servers, newServer(tls.NewListener(l, ca.ServerConfig()), s.account.API()))
	return nil
}

func newServer(l net.Listener, h http.Handler) server {
	return server{l, &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second}}
}

// run serves until ctx ends, then lets running requests finish for a moment.
func (s *site) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, srv := range s.servers {
		group.Go(func() error {
			if err := srv.http.Serve(srv.listener); !errors.Is(err, http.ErrServerClosed) {
				return fmt.Errorf("serving %s: %w", srv.listener.Addr(), err)
			}
			return nil
		})
		group.Go(func() error {
			<-ctx.Done()
			grace, cancel := context.WithTimeout(context.WithoutCancel(ctx), 2*time.Second)
			defer cancel()
			if srv.http.Shutdown(grace) != nil { // hanging requests, perhaps by a fault
				return srv.http.Close()
			}
			return nil
		})
	}
	return group.Wait()
}

// close closes every listener that run has not closed.
func (s *site) close() error {
	var errs []error
	for _, srv := range s.servers {
		if err := srv.listener.Close(); !errors.Is(err, net.ErrClosed) {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

func writeJSON(path string, v any) error {
	data, err := json.MarshalIndent(v, "", "  ")
	if err == nil {
		err = replace(path, append(data, '\n'))
	}
	if err != nil {
		return fmt.Errorf("writing ready file: %w", err)
	}
	return nil
}

// replace writes a file so that nobody sees half of it.
func replace(path string, data []byte) error {
	f, err := os.CreateTemp(filepath.Dir(path), "."+filepath.Base(path)+"-*")
	if err != nil {
		return err
	}
	_, err = f.Write(data)
	if err == nil {
		err = f.Chmod(0o644)
	}
	if err = errors.Join(err, f.Close()); err == nil {
		err = os.Rename(f.Name(), path)
	}
	if err != nil {
		return errors.Join(err, os.Remove(f.Name()))
	}
	return nil
}

// explain tells a person how to point clients at the account.
func explain(w io.Writer, r ready, s fakeaws.Scenario) error {
	var err error
	say := func(format string, args ...any) {
		if err == nil {
			_, err = fmt.Fprintf(w, format+"\n", args...)
		}
	}
	say("fakeaws: account %s in %s; stop with Ctrl-C", r.Account, r.Region)
	if r.API != "" {
		say("\n# every AWS service:\nexport AWS_ENDPOINT_URL=%s AWS_REGION=%s", r.API, r.Region)
	}
	if r.TLS != "" {
		say("# the same over TLS, for AWS's own host names: %s (authority: %s)", r.TLS, r.CAFile)
	}
	for _, n := range s.Notebooks {
		if url := r.IMDS[n.Name]; url != "" {
			say("# be the notebook instance %s:\nexport AWS_EC2_METADATA_SERVICE_ENDPOINT=%s/", n.Name, url)
		}
	}
	if r.Container != "" {
		for _, app := range slices.Sorted(maps.Keys(r.ContainerPaths)) {
			say("# or the Studio app %s:\nexport AWS_CONTAINER_CREDENTIALS_FULL_URI=%s%s", app, r.Container, r.ContainerPaths[app])
			break
		}
	}
	if r.API != "" {
		say("\n# then, for instance:\naws --endpoint-url %s sts get-caller-identity", r.API)
	}
	if r.Admin != "" {
		say("# what CloudTrail says of it:\ncurl -s %s/trail", r.Admin)
	}
	return err
}
