package fault_test

import (
	"errors"
	"net"
	"net/http"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// dial tries until the outcome is as wanted: the listener follows a change of
// the faults within moments, not at once.
func dial(t *testing.T, address string, wanted func(error) bool) {
	t.Helper()
	deadline := time.After(time.Minute)
	for {
		conn, err := net.Dial("tcp", address)
		if err == nil {
			conn.Close()
		}
		if wanted(err) {
			return
		}
		select {
		case <-deadline:
			t.Fatalf("dialling: %v", err)
		case <-time.After(time.Millisecond):
		}
	}
}

func refused(err error) bool  { return errors.Is(err, syscall.ECONNREFUSED) }
func accepted(err error) bool { return err == nil }

// ownAddress is where nobody else listens while the service refuses.
const ownAddress = "127.1.255.1:0"

func TestListen(t *testing.T) {
	var set fault.Set
	l, err := set.Listen("imds", ownAddress)
	if err != nil {
		t.Fatal(err)
	}
	server := &http.Server{Handler: set.Wrap(func(*http.Request) string { return "imds" }, http.NotFoundHandler())}
	served := make(chan error, 1)
	go func() { served <- server.Serve(l) }()
	address := l.Addr().String()
	get := func() error {
		client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		response, err := client.Get("http://" + address)
		if err == nil {
			response.Body.Close()
		}
		return err
	}
	for _, service := range []string{"imds", fault.AnyService} {
		dial(t, address, accepted)
		if err := set.Set(fault.Fault{Service: service, Kind: fault.Refuse}); err != nil {
			t.Fatal(err)
		}
		dial(t, address, refused)
		if err := set.Set(fault.Fault{Service: "sts", Kind: fault.Reset}); err != nil { // a change that is none
			t.Fatal(err)
		}
		for range 20 {
			if err := get(); !errors.Is(err, syscall.ECONNREFUSED) {
				t.Errorf("while refusing: %v", err)
			}
		}
		set.Clear("", "")
		dial(t, address, accepted)
		if err := get(); err != nil {
			t.Errorf("after clearing: %v", err)
		}
	}
	// With a count the kernel cannot know, so the handler resets.
	if err := set.Set(fault.Fault{Service: "imds", Kind: fault.Refuse, Count: 1}); err != nil {
		t.Fatal(err)
	}
	if err := get(); !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("with a count: %v", err)
	}
	if err := get(); err != nil {
		t.Errorf("after the count: %v", err)
	}
	if err := server.Close(); err != nil {
		t.Error(err)
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		t.Errorf("serve = %v", err)
	}
}

func TestListenCloses(t *testing.T) {
	for _, refusing := range []bool{false, true} {
		var set fault.Set
		l, err := set.Listen("sts", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			for {
				conn, err := l.Accept()
				if err != nil {
					ended <- err
					return
				}
				conn.Close()
			}
		}()
		if refusing {
			if err := set.Set(fault.Fault{Service: "sts", Kind: fault.Refuse}); err != nil {
				t.Fatal(err)
			}
			dial(t, l.Addr().String(), refused)
		} else {
			dial(t, l.Addr().String(), accepted)
		}
		if err := l.Close(); err != nil {
			t.Error(err)
		}
		if err := <-ended; !errors.Is(err, net.ErrClosed) {
			t.Errorf("accept = %v", err)
		}
		if err := l.Close(); !errors.Is(err, net.ErrClosed) {
			t.Errorf("closing twice = %v", err)
		}
	}
	var set fault.Set
	if _, err := set.Listen("sts", "not an address"); err == nil {
		t.Error("listening nowhere")
	}
}
