package credserver

import (
	"io"
	"net/http"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
)

// Profiles changes the AWS configuration of the user who asks: of no other,
// whoever that is. Errors whose Code method names a cause are shown to them.
type Profiles interface {
	// Add adds a profile with these keys.
	Add(uid uint32, name string, keys []ProfileKey) error
	Remove(uid uint32, name string) error
}

// ProfileKey is one line of a profile.
type ProfileKey struct{ Name, Value string }

const (
	profilesPath = "/v1/profiles/" // followed by the profile's name
	maxProfile   = 16 << 10        // bytes of a request's body
)

var (
	errProfileMethod = &refusal{code: "bad_request", message: "the method must be POST, to add a profile, or DELETE"}
	errProfileBody   = &refusal{code: "bad_request", message: "the body must be lines of key=value, 16 KiB at most"}
	errNoProfiles    = &refusal{code: "not_found", message: "no AWS configuration is attended yet"}
)

// serveProfile adds or removes a profile: POST with lines of key=value, or
// DELETE. It asks the kernel whose configuration is meant, never the caller.
func (f unixFace) serveProfile(w http.ResponseWriter, r *http.Request, c *gate.Conn, name string) {
	var keys []ProfileKey
	switch {
	case f.server.profiles == nil:
		f.refuse(w, r, http.StatusNotFound, errNoProfiles)
		return
	case r.Method != http.MethodPost && r.Method != http.MethodDelete:
		w.Header().Set("Allow", "POST, DELETE")
		f.refuse(w, r, http.StatusMethodNotAllowed, errProfileMethod)
		return
	case r.Method == http.MethodDelete && r.ContentLength != 0:
		f.refuse(w, r, http.StatusBadRequest, errBody)
		return
	case r.Method == http.MethodPost:
		var ok bool
		if keys, ok = readKeys(r); !ok {
			f.refuse(w, r, http.StatusBadRequest, errProfileBody)
			return
		}
	}
	c.Asked()
	done, err := "added", error(nil)
	if r.Method == http.MethodPost {
		err = f.server.profiles.Add(c.Caller.UID, name, keys)
	} else {
		done, err = "removed", f.server.profiles.Remove(c.Caller.UID, name)
	}
	if err != nil {
		f.refuse(w, r, http.StatusConflict, err)
		return
	}
	answer(w, http.StatusOK, "text/plain; charset=utf-8", []byte("profile "+name+" "+done+"\n"))
}

func readKeys(r *http.Request) ([]ProfileKey, bool) {
	if r.ContentLength <= 0 || r.ContentLength > maxProfile { // -1 when chunked
		return nil, false
	}
	body, err := io.ReadAll(r.Body) // no more than ContentLength
	if err != nil {
		return nil, false
	}
	var keys []ProfileKey
	for line := range strings.Lines(string(body)) {
		name, value, found := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
		if !found {
			return nil, false
		}
		keys = append(keys, ProfileKey{name, value})
	}
	return keys, true
}
