package metadata

import (
	"encoding/json"
	"errors"
	"net/http"
	"time"
)

// Credentials are one session's keys as the metadata services hand them out.
type Credentials struct {
	AccessKeyID     string
	SecretAccessKey string
	Token           string
	LastUpdated     time.Time
	Expiration      time.Time
	AccountID       string // container form only; "" = not stated
	RoleARN         string // container form only; "" = not stated
}

// complete reports whether nothing is missing that a client needs. An
// incomplete set is answered as a failure, never as an empty success.
func (c Credentials) complete() bool {
	return c.AccessKeyID != "" && c.SecretAccessKey != "" && c.Token != "" && !c.Expiration.IsZero()
}

var errIncomplete = errors.New("credentials are incomplete")

// stamp renders a time as both services do: UTC, whole seconds, Z.
func stamp(t time.Time) string { return t.UTC().Format("2006-01-02T15:04:05Z") }

// writeJSON writes v indented and without a final newline.
func writeJSON(w http.ResponseWriter, status int, contentType string, v any) {
	body, err := json.MarshalIndent(v, "", "  ")
	if err != nil { // strings and numbers only: cannot happen
		http.Error(w, "encoding the answer", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", contentType)
	w.WriteHeader(status)
	_, _ = w.Write(body) // the client has gone; nobody is left to tell
}
