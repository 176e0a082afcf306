package metadata

import (
	"errors"
	"net/http"
)

// ErrUnknownPath is what a ContainerConfig's Credentials returns for a path
// that belongs to no container.
var ErrUnknownPath = errors.New("no credentials at this path")

// ContainerConfig describes a container-credentials endpoint.
type ContainerConfig struct {
	// Credentials returns the session behind a path such as
	// "/v2/credentials/…". The path is the only secret there is, so compare it
	// in constant time or look it up by hash. [ErrUnknownPath] is answered 400,
	// any other error 500. Required.
	Credentials func(path string) (Credentials, error)
}

// NewContainer serves credentials in the form of the ECS agent: GET on a
// secret path; errors are JSON objects with code, message and HTTPErrorCode.
func NewContainer(cfg ContainerConfig) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Method != http.MethodGet {
			w.Header().Set("Allow", http.MethodGet)
			containerError(w, http.StatusMethodNotAllowed, "MethodNotAllowed", "Only GET is supported")
			return
		}
		if r.URL.Path == "" || r.URL.Path == "/" {
			containerError(w, http.StatusBadRequest, "NoIdInRequest", "CredentialsV2Request: No Credential ID in the request")
			return
		}
		c, err := cfg.Credentials(r.URL.Path)
		if err == nil && !c.complete() {
			err = errIncomplete
		}
		switch {
		case errors.Is(err, ErrUnknownPath):
			containerError(w, http.StatusBadRequest, "InvalidIdInRequest", "CredentialsV2Request: Credentials not found")
		case err != nil:
			containerError(w, http.StatusInternalServerError, "InternalServerError", "Unable to read the credentials")
		default:
			writeJSON(w, http.StatusOK, "application/json", containerCredentials{
				RoleArn: c.RoleARN, AccessKeyID: c.AccessKeyID, SecretAccessKey: c.SecretAccessKey,
				Token: c.Token, Expiration: stamp(c.Expiration), AccountID: c.AccountID,
			})
		}
	})
}

// containerCredentials is the wire form.
type containerCredentials struct {
	RoleArn         string `json:"RoleArn,omitempty"`
	AccessKeyID     string `json:"AccessKeyId"`
	SecretAccessKey string `json:"SecretAccessKey"`
	Token           string `json:"Token"`
	Expiration      string `json:"Expiration"`
	AccountID       string `json:"AccountId,omitempty"`
}

func containerError(w http.ResponseWriter, status int, code, message string) {
	writeJSON(w, status, "application/json", struct {
		Code    string `json:"code"`
		Message string `json:"message"`
		Status  int    `json:"HTTPErrorCode"`
	}{code, message, status})
}
