package credserver

import (
	"bytes"
	"encoding/json"
	"net/http"
	"strings"

	"go.uber.org/zap"
)

const faceUnix = "unix"

// unixFace is the handler of the unix socket. Host is ignored: no name leads
// here, so there is none to spoof.
func (s *Server) unixFace() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/credentials", s.serveCredentials)
	mux.HandleFunc("GET /v1/status", s.serveStatus)
	mux.HandleFunc("GET /metrics", s.serveMetrics)
	mux.HandleFunc("/", func(w http.ResponseWriter, r *http.Request) {
		s.refuse(w, r, http.StatusNotFound, errNotFound)
	})
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		c := connOf(r.Context())
		switch {
		case c == nil || !c.allowed:
			s.refuse(w, r, http.StatusForbidden, errForbidden)
		case forwarded(r):
			s.refuse(w, r, http.StatusForbidden, errProxied)
		case r.Method != http.MethodGet: // ServeMux lets HEAD match GET
			w.Header().Set("Allow", http.MethodGet)
			s.refuse(w, r, http.StatusMethodNotAllowed, errMethod)
		case r.ContentLength != 0: // -1 when chunked
			s.refuse(w, r, http.StatusBadRequest, errBody)
		default:
			c.asked()
			mux.ServeHTTP(w, r)
		}
	})
}

// forwarded reports whether somebody else's request seems to arrive through an
// allowed caller: a browser page or a proxy.
func forwarded(r *http.Request) bool {
	for _, name := range []string{"Origin", "Referer", "X-Forwarded-For", "Forwarded"} {
		if _, ok := r.Header[name]; ok {
			return true
		}
	}
	return false
}

func (s *Server) serveCredentials(w http.ResponseWriter, r *http.Request) {
	c, err := s.vend(r.Context(), faceUnix, connOf(r.Context()).peer)
	if err != nil {
		s.refuse(w, r, http.StatusServiceUnavailable, err)
		return
	}
	answer(w, http.StatusOK, "application/json", c.process)
}

func (s *Server) serveStatus(w http.ResponseWriter, r *http.Request) {
	report := s.report()
	report.Vends, report.Failures = s.vends.Load(), s.failures.Load()
	// For clients that do not parse JSON.
	w.Header().Set("Nbidentity-State", oneLine(string(report.State)))
	if strings.Contains(r.Header.Get("Accept"), "text/plain") {
		var b bytes.Buffer
		if err := report.WriteText(&b); err != nil {
			s.refuse(w, r, http.StatusInternalServerError, err)
			return
		}
		answer(w, http.StatusOK, "text/plain; charset=utf-8", b.Bytes())
		return
	}
	body, err := json.MarshalIndent(report, "", "  ")
	if err != nil {
		s.refuse(w, r, http.StatusInternalServerError, err)
		return
	}
	answer(w, http.StatusOK, "application/json", append(body, '\n'))
}

func (s *Server) serveMetrics(w http.ResponseWriter, r *http.Request) {
	var b bytes.Buffer
	s.metrics.WritePrometheus(&b)
	answer(w, http.StatusOK, "text/plain; version=0.0.4; charset=utf-8", b.Bytes())
}

// refuse answers r with err, counts it and sees to its line in the log.
func (s *Server) refuse(w http.ResponseWriter, r *http.Request, status int, err error) {
	code, message := explain(err)
	s.countRefusal(faceUnix, code)
	if c := connOf(r.Context()); c != nil {
		s.refusals.record(faceUnix, c.peer, code, err)
	} else {
		s.log.Error("request without a peer refused", zap.String("face", faceUnix))
	}
	refuse(w, status, code, message)
}
