package basesession

import (
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// TestMetadataKeepsNoConnections asks as a user can who wants the daemon to run
// out of descriptors.
func TestMetadataKeepsNoConnections(t *testing.T) {
	states := make(chan http.ConnState, 1000)
	service := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method == http.MethodPut {
			w.Header().Set("X-Aws-Ec2-Metadata-Token-Ttl-Seconds", "300")
		}
		_, _ = io.WriteString(w, "i-0123456789abcdef0")
	}))
	service.Config.ConnState = func(_ net.Conn, s http.ConnState) {
		if s == http.StateNew || s == http.StateClosed {
			states <- s
		}
	}
	service.Start()
	defer service.Close()
	for range 3 {
		body, _, status, err := Metadata(t.Context(), service.URL, "/latest/meta-data/instance-id")
		if err != nil || status != http.StatusOK || string(body) != "i-0123456789abcdef0" {
			t.Fatalf("%q, %d: %v", body, status, err)
		}
	}
	opened, closed := 0, 0
	for limit := time.After(20 * time.Second); opened == 0 || closed < opened; {
		select {
		case s := <-states:
			if s == http.StateNew {
				opened++
			} else {
				closed++
			}
		case <-limit:
			t.Fatalf("%d of %d connections are still open", opened-closed, opened)
		}
	}
}
