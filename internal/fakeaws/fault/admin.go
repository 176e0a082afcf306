package fault

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
)

// maxAdminBody bounds the body of an admin request.
const maxAdminBody = 1 << 20

// Admin serves the table as JSON, on whatever path it is mounted:
//
//	GET     the list of faults with "hits" and "spent"
//	PUT     sets one fault (an object) or several (an array); POST is the same
//	DELETE  clears; ?service= and ?kind= narrow it
//
// Every success answers 200 with the list after the change; an array is set as
// a whole or not at all. A bad request answers 400 with {"error": "…"}.
func (s *Set) Admin() http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch r.Method {
		case http.MethodGet:
		case http.MethodPut, http.MethodPost:
			faults, err := decode(http.MaxBytesReader(w, r.Body, maxAdminBody))
			if err != nil {
				writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
				return
			}
			for _, f := range faults {
				if err := s.Set(f); err != nil { // checked before: cannot fail
					writeJSON(w, http.StatusBadRequest, map[string]string{"error": err.Error()})
					return
				}
			}
		case http.MethodDelete:
			query := r.URL.Query()
			s.Clear(query.Get("service"), Kind(query.Get("kind")))
		default:
			w.Header().Set("Allow", "GET, PUT, POST, DELETE")
			writeJSON(w, http.StatusMethodNotAllowed, map[string]string{"error": "method not allowed"})
			return
		}
		writeJSON(w, http.StatusOK, s.List())
	})
}

// decode reads one fault or an array of them, strictly.
func decode(r io.Reader) ([]Fault, error) {
	data, err := io.ReadAll(r)
	if err != nil {
		return nil, fmt.Errorf("reading faults: %w", err)
	}
	list := make([]wire, 1)
	var into any = &list[0]
	if data = bytes.TrimSpace(data); bytes.HasPrefix(data, []byte("[")) {
		into = &list
	}
	decoder := json.NewDecoder(bytes.NewReader(data))
	decoder.DisallowUnknownFields()
	if err := decoder.Decode(into); err != nil {
		return nil, fmt.Errorf("reading faults: %w", err)
	}
	if _, err := decoder.Token(); !errors.Is(err, io.EOF) {
		return nil, errors.New("reading faults: more than one JSON value")
	}
	faults := make([]Fault, len(list))
	for i, item := range list {
		if faults[i], err = item.fault(); err != nil {
			return nil, err
		}
		if err := faults[i].check(); err != nil {
			return nil, err
		}
	}
	return faults, nil
}

func writeJSON(w http.ResponseWriter, status int, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client has gone; nobody is left to tell
}
