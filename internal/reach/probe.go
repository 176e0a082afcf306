package reach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"syscall"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/assurance"
)

// Target is what Probe tries.
type Target struct {
	Metadata []string // base URLs of the metadata service
	OurRole  string   // what our own service lists as role; the platform's lists another
	Sockets  []string // unix sockets that have root's power
}

// DefaultTarget is what a notebook instance has.
func DefaultTarget() Target {
	return Target{
		Metadata: []string{"http://169.254.169.254", "http://[fd00:ec2::254]"},
		OurRole:  "nbidentityd",
		Sockets:  []string{"/run/docker.sock", "/var/run/docker.sock", "/run/containerd/containerd.sock", "/run/podman/podman.sock"},
	}
}

const (
	tryLimit = 2 * time.Second
	maxBody  = 4096
)

// Probe tries the target as whoever runs it.
func Probe(ctx context.Context, t Target) Finding {
	f := Finding{Base: assurance.No, DockerSocket: assurance.No}
	var met []string
	for _, url := range t.Metadata {
		reached, what := tryMetadata(ctx, url, t.OurRole)
		met = append(met, what)
		if reached {
			f.Base = assurance.Yes
		}
	}
	f.BaseReason = strings.Join(met, "; ")
	for _, path := range t.Sockets {
		if tryTo(ctx, func(ctx context.Context) error { return dial(ctx, path) }) == nil {
			f.DockerSocket = assurance.Yes
		}
	}
	return f
}

func tryTo(ctx context.Context, do func(context.Context) error) error {
	ctx, cancel := context.WithTimeout(ctx, tryLimit)
	defer cancel()
	return do(ctx)
}

func dial(ctx context.Context, path string) error {
	conn, err := (&net.Dialer{}).DialContext(ctx, "unix", path)
	if err != nil {
		return err
	}
	return conn.Close()
}

// tryMetadata asks with a token and, since the older protocol may be on, also
// without one. Any answer that our own service would not give is the platform's.
func tryMetadata(ctx context.Context, base, ourRole string) (reached bool, met string) {
	// A connection of its own for each request: the fence cuts old ones, too.
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	const list = "/latest/meta-data/iam/security-credentials/"
	var role string
	err := tryTo(ctx, func(ctx context.Context) error {
		token, err := fetch(ctx, client, http.MethodPut, base+"/latest/api/token", "X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "60")
		if err != nil {
			return err
		}
		role, err = fetch(ctx, client, http.MethodGet, base+list, "X-Aws-Ec2-Metadata-Token", token)
		return err
	})
	if status := (answered(0)); errors.As(err, &status) {
		// Somebody answers there and refuses: ours does so with its own words
		// only to uids that it does not serve; do not guess.
		return true, fmt.Sprintf("%s answered HTTP %d", base, status)
	}
	switch {
	case err == nil && role == ourRole:
		return false, base + " leads to nbidentityd"
	case err == nil:
		return true, base + " answered"
	case errors.Is(err, syscall.ECONNREFUSED), errors.Is(err, syscall.ECONNRESET):
		return false, base + " is refused"
	case errors.Is(err, syscall.ENETUNREACH), errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.EADDRNOTAVAIL), errors.Is(err, syscall.EACCES), errors.Is(err, syscall.EPERM):
		return false, base + " cannot be reached"
	}
	return false, base + " did not answer"
}

// answered is an HTTP status other than 200.
type answered int

func (a answered) Error() string { return fmt.Sprintf("HTTP status %d", int(a)) }

func fetch(ctx context.Context, client *http.Client, method, url, header, value string) (string, error) {
	req, err := http.NewRequestWithContext(ctx, method, url, nil)
	if err != nil {
		return "", err
	}
	req.Header.Set(header, value)
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", answered(resp.StatusCode)
	}
	return string(body), nil
}
