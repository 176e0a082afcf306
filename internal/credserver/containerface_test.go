package credserver

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/google/go-cmp/cmp"
)

func TestContainerCredentials(t *testing.T) {
	v := good()
	v.Expires = time.Date(2094, 1, 2, 3, 4, 5, 999_999_999, time.FixedZone("", 3600))
	p := &provider{value: v}
	r := startContainer(t, Config{Credentials: p})
	authorization := "Authorization: " + r.token(t, uint32(os.Geteuid()))
	resp, body := r.send(t, "GET", ContainerPath, authorization)
	want := `{"AccessKeyId":"ASIATESTEXAMPLE","SecretAccessKey":"test-secret-access-key",` +
		`"Token":"test-session-token/+==","Expiration":"2094-01-02T02:04:05Z","AccountId":"111122223333"}` + "\n"
	if diff := cmp.Diff(want, body); diff != "" {
		t.Errorf("body (-want +got):\n%s", diff)
	}
	if resp.StatusCode != 200 || resp.Header.Get("Content-Type") != "application/json" || resp.Header.Get("Cache-Control") != "no-store" {
		t.Errorf("status %d, header %v", resp.StatusCode, resp.Header)
	}
	v.AccountID = ""
	p.set(v, nil)
	if _, body := r.send(t, "GET", ContainerPath, authorization); strings.Contains(body, "AccountId") {
		t.Errorf("body %s", body)
	}
	line := r.logs.FilterMessage("credentials vended").All()[0].ContextMap()
	if peer, ok := line["peer"].(string); !ok || !strings.HasPrefix(peer, "127.0.0.1:") {
		t.Errorf("peer %v", line["peer"])
	}
	delete(line, "peer")
	if diff := cmp.Diff(map[string]any{
		"uid": uint32(os.Geteuid()), "face": "container", "key_id_suffix": "MPLE", "expires": v.Expires.UTC().Truncate(time.Second),
	}, line); diff != "" {
		t.Errorf("line (-want +got):\n%s", diff)
	}
}

func TestContainerRefuses(t *testing.T) {
	r := startContainer(t, Config{Credentials: &provider{value: good()}})
	mine := "Authorization: " + r.token(t, uint32(os.Geteuid()))
	for _, tt := range []struct {
		name, method, path string
		header             []string
		status             int
		code               string
	}{
		{"no token", "GET", ContainerPath, nil, 401, "unauthorized"},
		{"empty token", "GET", ContainerPath, []string{"Authorization:"}, 401, "unauthorized"},
		{"forged token", "GET", ContainerPath, []string{mine[:len(mine)-1] + "_"}, 401, "unauthorized"},
		{"scheme before it", "GET", ContainerPath, []string{strings.Replace(mine, ": ", ": Bearer ", 1)}, 401, "unauthorized"},
		{"two tokens", "GET", ContainerPath, []string{mine, mine}, 401, "unauthorized"},
		{"token in the URL", "GET", ContainerPath + "?" + mine[15:], nil, 401, "unauthorized"},
		{"another path", "GET", "/", []string{mine}, 404, "not_found"},
		{"the socket's path", "GET", "/v1/credentials", []string{mine}, 404, "not_found"},
		{"the metadata service's path", "GET", rolesPath, []string{mine}, 404, "not_found"},
		{"slash after it", "GET", ContainerPath + "/", []string{mine}, 404, "not_found"},
		{"another path without token", "GET", "/", nil, 401, "unauthorized"},
		{"POST", "POST", ContainerPath, []string{mine}, 405, "bad_request"},
		{"body", "GET", ContainerPath, []string{mine, "Content-Length: 1"}, 400, "bad_request"},
		{"Host", "GET", ContainerPath, []string{mine, "Host: evil.example"}, 403, "forbidden"},
		{"Host of the metadata service", "GET", ContainerPath, []string{mine, "Host: 169.254.169.254"}, 403, "forbidden"},
		{"absolute URL", "GET", "http://evil.example" + ContainerPath, []string{mine}, 403, "forbidden"},
		{"X-Forwarded-For", "GET", ContainerPath, []string{mine, "X-Forwarded-For: 127.0.0.1"}, 403, "forbidden"},
		{"page", "GET", ContainerPath, []string{mine, "Origin: http://127.0.0.1:8888"}, 403, "forbidden"},
		{"page's question before it asks", "OPTIONS", ContainerPath, []string{"Origin: http://evil.example", "Access-Control-Request-Headers: authorization"}, 403, "forbidden"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			resp, body := r.send(t, tt.method, tt.path, tt.header...)
			checkRefusal(t, resp, body, tt.status, tt.code, "")
			for name := range resp.Header {
				if strings.HasPrefix(name, "Access-Control-") {
					t.Errorf("header %s", name)
				}
			}
		})
	}
	if n := r.vended(); n != 0 {
		t.Errorf("%d credentials vended", n)
	}
	for _, line := range r.logs.All() {
		if strings.Contains(fmt.Sprint(line), mine[15:]) {
			t.Error("a token in the log")
		}
	}
}

// A token opens for its user, and for root, and for nobody who has got hold of it.
func TestContainerOtherUID(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("needs root: to ask as another uid")
	}
	r := startContainer(t, Config{Credentials: &provider{value: good()}, AllowUIDs: []uint32{1500, 1501}}, 1500, 1501, 1502)
	for _, tt := range []struct {
		asks, token uint32
		want        string
	}{
		{1500, 1500, "HTTP/1.1 200 "},
		{1501, 1501, "HTTP/1.1 200 "},
		{1501, 1500, "HTTP/1.1 403 "},
		{1501, 0, "HTTP/1.1 403 "},
		{1502, 1502, "HTTP/1.1 403 "}, // has a token and is not allowed
		{1502, 1500, "HTTP/1.1 403 "},
		{0, 1500, "HTTP/1.1 200 "}, // sudo keeps the variables
	} {
		before := r.vended()
		got := childOf(t, tt.asks, childRequest+"="+r.addr, "REQUEST=GET "+ContainerPath+" HTTP/1.1\r\nHost: "+r.addr+
			"\r\nConnection: close\r\nAuthorization: "+r.token(t, tt.token)+"\r\n\r\n")
		if !strings.HasPrefix(got, tt.want) {
			t.Errorf("uid %d with the token of %d: %.80q", tt.asks, tt.token, got)
		}
		lines := r.logs.FilterMessage("credentials vended").All()[before:]
		if ok := tt.want == "HTTP/1.1 200 "; ok != (len(lines) == 1) || ok && lines[0].ContextMap()["uid"] != tt.asks {
			t.Errorf("uid %d with the token of %d: log %v", tt.asks, tt.token, lines)
		}
	}
}

// Each start has its own tokens.
func TestContainerTokensRotate(t *testing.T) {
	first := startContainer(t, Config{Credentials: &provider{value: good()}})
	old := first.token(t, uint32(os.Geteuid()))
	second := startContainer(t, Config{Credentials: &provider{value: good()}})
	resp, body := second.send(t, "GET", ContainerPath, "Authorization: "+old)
	checkRefusal(t, resp, body, 401, "unauthorized", "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE")
}

func TestContainerUnavailable(t *testing.T) {
	p := &provider{err: &codedError{"throttled", "slow down", "wait"}}
	r := startContainer(t, Config{Credentials: p})
	authorization := "Authorization: " + r.token(t, uint32(os.Geteuid()))
	resp, body := r.send(t, "GET", ContainerPath, authorization)
	checkRefusal(t, resp, body, 503, "throttled", "slow down; wait")
	p.set(aws.Credentials{}, nil)
	resp, body = r.send(t, "GET", ContainerPath, authorization)
	checkRefusal(t, resp, body, 503, "failed", "incomplete")
	if n := r.server.failures.Load(); n != 2 {
		t.Errorf("%d failures counted", n)
	}
}

// A life below which clients ask at every call is served and counted.
func TestShortLifeIsCounted(t *testing.T) {
	p := &provider{}
	r := startContainer(t, Config{Credentials: p})
	short := r.server.metrics.GetOrCreateCounter(`nbidentityd_short_vends_total{face="container"}`)
	for left, want := range map[time.Duration]uint64{16 * time.Minute: 0, 14 * time.Minute: 1} {
		v := good()
		v.Expires = time.Now().Add(left)
		p.set(v, nil)
		before := short.Get()
		if resp, _ := r.send(t, "GET", ContainerPath, "Authorization: "+r.token(t, uint32(os.Geteuid()))); resp.StatusCode != 200 {
			t.Errorf("status %d", resp.StatusCode)
		}
		if got := short.Get() - before; got != want {
			t.Errorf("%v left: %d counted", left, got)
		}
	}
}
