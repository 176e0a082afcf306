package credserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
)

// unixFace is the handler of the unix socket. Host is ignored: no name leads
// here, so there is none to spoof.
type unixFace struct{ *face }

func (f unixFace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	c := f.admitted(w, r)
	if c == nil {
		return
	}
	if name, ok := strings.CutPrefix(r.URL.Path, profilesPath); ok {
		f.serveProfile(w, r, c, name)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		f.refuse(w, r, http.StatusMethodNotAllowed, errMethod)
		return
	}
	if r.ContentLength != 0 { // -1 when chunked
		f.refuse(w, r, http.StatusBadRequest, errBody)
		return
	}
	c.Asked()
	switch r.URL.Path {
	case "/v1/credentials":
		f.serveCredentials(w, r, c)
	case "/v1/status":
		f.serveStatus(w, r)
	case "/metrics":
		f.serveMetrics(w)
	default:
		f.refuse(w, r, http.StatusNotFound, errNotFound)
	}
}

func (f unixFace) serveCredentials(w http.ResponseWriter, r *http.Request, c *gate.Conn) {
	what, err := f.vend(r.Context(), c)
	if err != nil {
		f.refuse(w, r, http.StatusServiceUnavailable, err)
		return
	}
	hand(w, jsonType, what.Process)
}

func (f unixFace) serveStatus(w http.ResponseWriter, r *http.Request) {
	report := f.server.report()
	report.Vends, report.Failures = f.server.vends.Load(), f.server.failures.Load()
	// For clients that do not parse JSON.
	w.Header().Set("Nbidentity-State", oneLine(string(report.State)))
	if strings.Contains(r.Header.Get("Accept"), "text/plain") {
		var b bytes.Buffer
		if err := report.WriteText(&b); err != nil {
			f.refuse(w, r, http.StatusInternalServerError, err)
			return
		}
		answer(w, http.StatusOK, "text/plain; charset=utf-8", b.Bytes())
		return
	}
	body, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		f.refuse(w, r, http.StatusInternalServerError, err)
		return
	}
	answer(w, http.StatusOK, "application/json", append(body, '\n'))
}

func (f unixFace) serveMetrics(w http.ResponseWriter) {
	var b bytes.Buffer
	f.server.metrics.WritePrometheus(&b)
	answer(w, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", b.Bytes())
}
