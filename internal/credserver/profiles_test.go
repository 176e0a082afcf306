package credserver

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// book is a Profiles that writes down what it is asked.
type book struct {
	mu  sync.Mutex
	did []string
	err error
}

func (b *book) Add(uid uint32, name string, keys []ProfileKey) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.did = append(b.did, fmt.Sprint("add ", uid, " ", name, " ", keys))
	return b.err
}

func (b *book) Remove(uid uint32, name string) error {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.did = append(b.did, fmt.Sprint("remove ", uid, " ", name))
	return b.err
}

func postProfile(t *testing.T, path, name, body string) string {
	return raw(t, path, fmt.Sprintf("POST /v1/profiles/%s HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%s", name, len(body), body))
}

func TestProfiles(t *testing.T) {
	b := &book{}
	r := start(t, Config{Credentials: &provider{value: good()}, Profiles: b})
	if got := postProfile(t, r.path, "work", "region=eu-west-1\nrole_arn=a=b\n"); !strings.Contains(got, " 200 ") || !strings.HasSuffix(got, "profile work added\n") {
		t.Errorf("POST: %q", got)
	}
	if resp, body := request(t, r.path, "DELETE", "/v1/profiles/work"); resp.StatusCode != 200 || body != "profile work removed\n" {
		t.Errorf("DELETE: %d %q", resp.StatusCode, body)
	}
	want := []string{
		fmt.Sprintf("add %d work [{region eu-west-1} {role_arn a=b}]", os.Getuid()),
		fmt.Sprintf("remove %d work", os.Getuid()),
	}
	if diff := cmp.Diff(want, b.did); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	b.err = &codedError{code: "profile_refused", message: "there is one already"}
	if got := postProfile(t, r.path, "work", "a=b\n"); !strings.Contains(got, " 409 ") || !strings.Contains(got, "Nbidentity-Message: there is one already\r\n") {
		t.Errorf("a refusal: %q", got)
	}
	b.err = fmt.Errorf("not for users")
	if got := postProfile(t, r.path, "work", "a=b\n"); !strings.Contains(got, " 409 ") || strings.Contains(got, "not for users") {
		t.Errorf("an error of ours: %q", got)
	}
}

func TestProfilesRefused(t *testing.T) {
	b := &book{}
	r := start(t, Config{Credentials: &provider{value: good()}, Profiles: b})
	huge := strings.Repeat("a=b\n", maxProfile/4+1)
	for name, got := range map[string]string{
		"no key":             postProfile(t, r.path, "p", "region\n"),
		"no body":            postProfile(t, r.path, "p", ""),
		"a huge body":        postProfile(t, r.path, "p", huge),
		"a cut body":         raw(t, r.path, "POST /v1/profiles/p HTTP/1.1\r\nHost: x\r\nContent-Length: 20\r\n\r\na=b\n"),
		"chunked":            raw(t, r.path, "POST /v1/profiles/p HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n4\r\na=b\n\r\n0\r\n\r\n"),
		"a browser":          raw(t, r.path, "POST /v1/profiles/p HTTP/1.1\r\nHost: x\r\nOrigin: https://evil.example\r\nContent-Length: 4\r\n\r\na=b\n"),
		"GET":                raw(t, r.path, "GET /v1/profiles/p HTTP/1.1\r\nHost: x\r\n\r\n"),
		"PUT":                raw(t, r.path, "PUT /v1/profiles/p HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\na=b\n"),
		"DELETE with a body": raw(t, r.path, "DELETE /v1/profiles/p HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\n\r\na=b\n"),
	} {
		if !strings.HasPrefix(got, "HTTP/1.1 4") {
			t.Errorf("%s: %q", name, got)
		}
	}
	if len(b.did) > 0 {
		t.Errorf("got through: %q", b.did)
	}
	none := start(t, Config{Credentials: &provider{value: good()}})
	if got := postProfile(t, none.path, "p", "a=b\n"); !strings.Contains(got, " 404 ") {
		t.Errorf("without Profiles: %q", got)
	}
}
