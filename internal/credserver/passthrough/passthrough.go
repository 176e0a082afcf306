// Package passthrough answers for the parts of the instance metadata that are
// the machine's and nobody's secret, from memory, by asking the real service.
//
// It guarantees that only the paths of Passes are ever asked for, one at a
// time; that a client waits no longer than Patience; and that what was
// once answered is answered again when the real service fails. What it knows is
// asked for anew, when somebody wants it, after an hour.
//
// What passes is a list, so that nothing slips through when AWS adds a path. Not
// on it are, with intent: everything that holds credentials
// (iam/security-credentials, identity-credentials); the signatures of the
// instance identity document, which prove to others to be this machine;
// and user-data, which belongs to the platform and may hold anything.
package passthrough

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"sync"
	"time"
)

const (
	// Patience is how long a client waits for an answer that is not known yet:
	// SDKs give up after 250 ms.
	Patience = 80 * time.Millisecond

	fetchTimeout = 2 * time.Second
	freshFor     = time.Hour
	missingFor   = time.Minute // after "no such path": tags and the like may appear
	retryAfter   = time.Second // after a failure

	maxBody = 64 << 10
)

// ErrUnavailable says that the real service has not answered.
var ErrUnavailable = errors.New("the metadata service has not answered")

// Passes reports whether the path, as in a request's URL, is passed through.
func Passes(path string) bool {
	switch path {
	case
		"/latest/dynamic/instance-identity/document",
		"/latest/meta-data/ami-id",
		"/latest/meta-data/hostname",
		"/latest/meta-data/iam/info",
		"/latest/meta-data/instance-id",
		"/latest/meta-data/instance-life-cycle",
		"/latest/meta-data/instance-type",
		"/latest/meta-data/local-hostname",
		"/latest/meta-data/local-ipv4",
		"/latest/meta-data/mac",
		"/latest/meta-data/placement/availability-zone",
		"/latest/meta-data/placement/availability-zone-id",
		"/latest/meta-data/placement/region",
		"/latest/meta-data/services/domain",
		"/latest/meta-data/services/partition":
		return true
	}
	return false
}

// Fetch asks the real service for a path. It must end with its context.
type Fetch func(ctx context.Context, path string) (body []byte, contentType string, status int, err error)

// Answer is what the real service said: Found is false for "no such path".
type Answer struct {
	Found bool
	Body  []byte // at most 64 KiB
	JSON  bool   // else plain text
}

// Cache keeps answers.
type Cache struct {
	fetch Fetch
	wants chan string

	mu      sync.Mutex
	entries map[string]*entry // by path, of Passes only
}

type entry struct {
	answer Answer
	known  bool
	again  time.Time     // when to ask anew; zero: never asked
	asking chan struct{} // closed when the answer is there; nil when not asked for
}

// New returns a cache that asks nothing until Run is called.
func New(fetch Fetch) *Cache {
	// Each path is wanted at most once at a time, so sending never blocks while
	// there is room for all of them.
	return &Cache{fetch: fetch, wants: make(chan string, 32), entries: make(map[string]*entry)}
}

// Run asks the real service for what clients want, until ctx ends. Several may
// run at a time.
func (c *Cache) Run(ctx context.Context) {
	for {
		select {
		case path := <-c.wants:
			c.load(ctx, path)
		case <-ctx.Done():
			return
		}
	}
}

// Get returns the answer for a path of Passes, or ErrUnavailable.
func (c *Cache) Get(ctx context.Context, path string) (Answer, error) {
	if !Passes(path) {
		return Answer{}, nil
	}
	c.mu.Lock()
	e := c.entries[path]
	if e == nil {
		e = &entry{}
		c.entries[path] = e
	}
	if e.asking == nil && !time.Now().Before(e.again) {
		e.asking = make(chan struct{})
		c.wants <- path
	}
	answer, known, asking := e.answer, e.known, e.asking
	c.mu.Unlock()
	if known {
		return answer, nil
	}
	if asking != nil {
		patience := time.NewTimer(Patience)
		defer patience.Stop()
		select {
		case <-asking:
		case <-patience.C:
		case <-ctx.Done():
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if !e.known {
		return Answer{}, ErrUnavailable
	}
	return e.answer, nil
}

func (c *Cache) load(ctx context.Context, path string) {
	answer, err := c.ask(ctx, path)
	c.mu.Lock()
	defer c.mu.Unlock()
	e := c.entries[path]
	switch {
	case err != nil:
		e.again = time.Now().Add(retryAfter)
	case !answer.Found:
		e.again = time.Now().Add(missingFor)
	default:
		e.again = time.Now().Add(freshFor)
	}
	if err == nil {
		e.answer, e.known = answer, true
	}
	close(e.asking)
	e.asking = nil
}

func (c *Cache) ask(ctx context.Context, path string) (Answer, error) {
	ctx, cancel := context.WithTimeout(ctx, fetchTimeout)
	defer cancel()
	body, contentType, status, err := c.fetch(ctx, path)
	switch {
	case err != nil:
		return Answer{}, err
	case status == http.StatusNotFound:
		return Answer{}, nil
	case status != http.StatusOK || len(body) > maxBody:
		return Answer{}, fmt.Errorf("asking the metadata service for %s: status %d, %d bytes", path, status, len(body))
	}
	return Answer{Found: true, Body: body, JSON: contentType == "application/json"}, nil
}
