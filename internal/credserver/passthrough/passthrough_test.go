package passthrough

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

const region = "/latest/meta-data/placement/region"

// service is a metadata service whose behaviour a test sets.
type service struct {
	mu     sync.Mutex
	asked  []string
	body   string
	status int
	err    error
	takes  time.Duration
}

func (s *service) fetch(ctx context.Context, path string) ([]byte, string, int, error) {
	s.mu.Lock()
	s.asked = append(s.asked, path)
	body, status, err, takes := s.body, s.status, s.err, s.takes
	s.mu.Unlock()
	select {
	case <-time.After(takes):
		return []byte(body), "text/plain", status, err
	case <-ctx.Done():
		return nil, "", 0, ctx.Err()
	}
}

func (s *service) set(body string, status int, err error, takes time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.body, s.status, s.err, s.takes = body, status, err, takes
}

func (s *service) count() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.asked)
}

// in runs test with a running cache in simulated time.
func in(t *testing.T, test func(t *testing.T, s *service, c *Cache)) {
	synctest.Test(t, func(t *testing.T) {
		s := &service{}
		c := New(s.fetch)
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan struct{})
		go func() { defer close(done); c.Run(ctx) }()
		test(t, s, c)
		cancel()
		<-done
	})
}

func expect(t *testing.T, c *Cache, want string, within time.Duration) {
	t.Helper()
	begin := time.Now()
	a, err := c.Get(t.Context(), region)
	got := string(a.Body)
	switch {
	case err != nil:
		got = "error"
		if !errors.Is(err, ErrUnavailable) {
			t.Errorf("error %v", err)
		}
	case !a.Found:
		got = "missing"
	}
	if took := time.Since(begin); got != want || took > within {
		t.Errorf("%q after %v, want %q within %v", got, took, want, within)
	}
}

func TestCache(t *testing.T) {
	in(t, func(t *testing.T, s *service, c *Cache) {
		s.set("", 0, errors.New("no route"), 0)
		expect(t, c, "error", 0)
		expect(t, c, "error", 0)
		if s.count() != 1 {
			t.Errorf("a failure is asked for %d times", s.count())
		}
		time.Sleep(retryAfter)
		s.set("", 503, nil, 0)
		expect(t, c, "error", 0)
		time.Sleep(retryAfter)
		s.set("", 404, nil, 0)
		expect(t, c, "missing", 0)
		expect(t, c, "missing", 0)
		time.Sleep(missingFor)
		s.set("us-east-1", 200, nil, 0)
		expect(t, c, "missing", 0) // the old answer; the new one follows
		synctest.Wait()
		expect(t, c, "us-east-1", 0)
		n := s.count()
		time.Sleep(freshFor - time.Second)
		expect(t, c, "us-east-1", 0)
		if s.count() != n {
			t.Error("a fresh answer is asked for again")
		}
		time.Sleep(2 * time.Second)
		s.set("", 0, errors.New("gone"), 0)
		for range 10 {
			expect(t, c, "us-east-1", 0) // also when the service fails for good
			time.Sleep(freshFor)
		}
	})
}

func TestSlowService(t *testing.T) {
	in(t, func(t *testing.T, s *service, c *Cache) {
		s.set("us-east-1", 200, nil, time.Second)
		var clients sync.WaitGroup
		for range 100 {
			clients.Go(func() { expect(t, c, "error", Patience) })
		}
		clients.Wait()
		time.Sleep(time.Second)
		expect(t, c, "us-east-1", 0)
		if s.count() != 1 {
			t.Errorf("asked %d times", s.count())
		}
	})
}

// A service that hangs holds nobody for longer than that, whatever is asked.
func TestHangingService(t *testing.T) {
	in(t, func(t *testing.T, s *service, c *Cache) {
		s.set("", 0, nil, 100*time.Hour)
		for range 100 {
			expect(t, c, "error", Patience)
			begin := time.Now()
			if _, err := c.Get(t.Context(), "/latest/meta-data/instance-id"); err == nil || time.Since(begin) > Patience {
				t.Errorf("%v after %v", err, time.Since(begin))
			}
		}
	})
}

func TestNotPassed(t *testing.T) {
	in(t, func(t *testing.T, s *service, c *Cache) {
		s.set("secret", 200, nil, 0)
		for _, path := range []string{
			"", "/", "/latest", "/latest/", "/latest/user-data", "/latest/meta-data/", "/latest/api/token",
			"/latest/meta-data/iam/security-credentials/", "/latest/meta-data/iam/security-credentials/x",
			"/latest/meta-data/identity-credentials/ec2/security-credentials/ec2-instance",
			"/latest/dynamic/instance-identity/pkcs7", "/latest/dynamic/instance-identity/signature",
			"/latest/meta-data/instance-id/", "/latest/meta-data//instance-id", "/latest/meta-data/instance-id/../../user-data",
			"/LATEST/meta-data/instance-id", "/1.0/meta-data/instance-id",
		} {
			if a, err := c.Get(t.Context(), path); err != nil || a.Found || Passes(path) {
				t.Errorf("%s: %+v, %v", path, a, err)
			}
		}
		if len(s.asked) != 0 {
			t.Errorf("asked for %v", s.asked)
		}
	})
}

func TestHugeAnswer(t *testing.T) {
	in(t, func(t *testing.T, s *service, c *Cache) {
		s.set(strings.Repeat("x", maxBody+1), 200, nil, 0)
		expect(t, c, "error", 0)
	})
}

func TestContentType(t *testing.T) {
	in(t, func(t *testing.T, _ *service, _ *Cache) {
		for contentType, want := range map[string]bool{"application/json": true, "text/plain": false, "text/html\r\nX: y": false, "": false} {
			c := New(func(context.Context, string) ([]byte, string, int, error) {
				return nil, contentType, http.StatusOK, nil
			})
			if a, err := c.ask(t.Context(), region); err != nil || a.JSON != want {
				t.Errorf("%q: %+v, %v", contentType, a, err)
			}
		}
	})
}

// A client that goes away does not wait.
func TestClientGone(t *testing.T) {
	in(t, func(t *testing.T, s *service, c *Cache) {
		s.set("", 0, nil, time.Hour)
		gone, cancel := context.WithCancel(t.Context())
		cancel()
		begin := time.Now()
		if _, err := c.Get(gone, region); !errors.Is(err, ErrUnavailable) || time.Since(begin) > 0 {
			t.Errorf("%v after %v", err, time.Since(begin))
		}
	})
}

func TestEveryPathFitsTheQueue(t *testing.T) {
	c := New(nil) // nothing runs
	gone, cancel := context.WithCancel(t.Context())
	cancel()
	for _, path := range []string{"dynamic/instance-identity/document", "meta-data/ami-id", "meta-data/hostname", "meta-data/iam/info",
		"meta-data/instance-id", "meta-data/instance-life-cycle", "meta-data/instance-type", "meta-data/local-hostname", "meta-data/local-ipv4",
		"meta-data/mac", "meta-data/placement/availability-zone", "meta-data/placement/availability-zone-id", "meta-data/placement/region",
		"meta-data/services/domain", "meta-data/services/partition"} {
		for range 3 {
			if _, err := c.Get(gone, "/latest/"+path); !errors.Is(err, ErrUnavailable) {
				t.Errorf("%s: %v", path, err)
			}
		}
	}
	if n := len(c.wants); n != 15 {
		t.Errorf("%d wanted", n)
	}
}
