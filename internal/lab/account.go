package lab

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"time"
)

// daemonApp is how the daemon's own calls are told from others in the trail.
const daemonApp = "app/nbidentityd"

// Account is a running fakeaws.
type Account struct {
	*Process
	Region         string            `json:"region"`
	API            string            `json:"api"`
	TLS            string            `json:"tls"`
	CAFile         string            `json:"ca_file"`
	IMDS           map[string]string `json:"imds"`
	Container      string            `json:"container"`
	ContainerPaths map[string]string `json:"container_paths"`
	Admin          string            `json:"admin"`

	lab  *Lab
	http *http.Client
}

// Record is what a trial looks at in a CloudTrail record.
type Record struct {
	EventName    string `json:"eventName"`
	UserAgent    string `json:"userAgent"`
	SourceIP     string `json:"sourceIPAddress"`
	ErrorCode    string `json:"errorCode"`
	UserIdentity struct {
		Type           string `json:"type"`
		ARN            string `json:"arn"`
		SessionContext struct {
			SourceIdentity string `json:"sourceIdentity"`
		} `json:"sessionContext"`
	} `json:"userIdentity"`
}

// SessionName is the last part of the caller's ARN.
func (r Record) SessionName() string {
	return r.UserIdentity.ARN[strings.LastIndexByte(r.UserIdentity.ARN, '/')+1:]
}

// ByClient reports whether a program of the notebook made the call: not
// SageMaker itself, which starts every base session, and not the daemon.
func (r Record) ByClient() bool {
	return r.UserIdentity.Type != "AWSService" && !strings.Contains(r.UserAgent, daemonApp)
}

// StartAccount starts fakeaws with the default scenario and further flags.
func (l *Lab) StartAccount(ctx context.Context, flags ...string) (*Account, error) {
	ready := filepath.Join(l.Dir, "fakeaws.json")
	args := append([]string{l.Program("fakeaws"), "-ready-file", ready, "-v"}, flags...)
	p, err := l.Start(ctx, "fakeaws", nil, args...)
	if err != nil {
		return nil, err
	}
	a := &Account{Process: p, lab: l, http: &http.Client{Timeout: time.Minute}}
	if err := p.Await(ctx, "ready file", func() bool { return readJSON(ready, a) == nil }); err != nil {
		return nil, err
	}
	return a, nil
}

// call speaks to the account's controls, from where the lab's programs run.
func (a *Account) call(ctx context.Context, method, path string, body any) ([]byte, error) {
	var in io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return nil, err
		}
		in = bytes.NewReader(data)
	}
	req, err := http.NewRequestWithContext(ctx, method, a.Admin+path, in)
	if err != nil {
		return nil, err
	}
	resp, err := a.http.Do(req)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	data, err := io.ReadAll(resp.Body)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("fakeaws %s %s: %s: %s", method, path, resp.Status, data)
	}
	return data, nil
}

// Records returns the trail from index since on.
func (a *Account) Records(ctx context.Context, since int) ([]Record, error) {
	data, err := a.call(ctx, http.MethodGet, fmt.Sprintf("/trail?since=%d", since), nil)
	if err != nil {
		return nil, err
	}
	var records []Record
	for _, line := range lines(string(data)) {
		var r Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("reading the trail: %w", err)
		}
		records = append(records, r)
	}
	return records, nil
}

// Flush delivers the trail to dir as CloudTrail delivers it to S3.
func (a *Account) Flush(ctx context.Context, dir string) error {
	_, err := a.call(ctx, http.MethodPost, "/flush", map[string]string{"dir": dir})
	return err
}

// Secrets returns every secret key and session token issued so far.
func (a *Account) Secrets(ctx context.Context) ([]string, error) {
	data, err := a.call(ctx, http.MethodGet, "/secrets", nil)
	if err != nil {
		return nil, err
	}
	var secrets []string
	return secrets, json.Unmarshal(data, &secrets)
}

// Fault is a way in which the account misbehaves; see package fault for its
// services, kinds and fields.
type Fault struct {
	Service  string `json:"service"`
	Kind     string `json:"kind"`
	Count    int    `json:"count,omitempty"`
	Duration string `json:"duration,omitempty"`
	Status   int    `json:"status,omitempty"`
	Body     string `json:"body,omitempty"`
}

// Trust replaces the trust policy of a role.
func (a *Account) Trust(ctx context.Context, role, document string) error {
	_, err := a.call(ctx, http.MethodPut, "/roles/"+role, map[string]json.RawMessage{"trust": json.RawMessage(document)})
	return err
}

// Misbehave switches faults on.
func (a *Account) Misbehave(ctx context.Context, faults ...Fault) error {
	_, err := a.call(ctx, http.MethodPut, "/faults", faults)
	return err
}

// Behave switches all faults off.
func (a *Account) Behave(ctx context.Context) error {
	_, err := a.call(ctx, http.MethodDelete, "/faults", nil)
	return err
}

// ChangeBaseSessions rotates, expires or revokes what SageMaker has handed out.
func (a *Account) ChangeBaseSessions(ctx context.Context, how string) error {
	_, err := a.call(ctx, http.MethodPost, "/base-sessions/"+how, nil)
	return err
}

// SetClock moves AWS's clock, which looks to the notebook like a step of its own.
func (a *Account) SetClock(ctx context.Context, offset time.Duration) error {
	_, err := a.call(ctx, http.MethodPut, "/clock", map[string]string{"offset": offset.String()})
	return err
}
