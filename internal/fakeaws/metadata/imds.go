// Package metadata serves the two places where a machine finds its own
// credentials: the EC2 instance metadata service (IMDS) and the container
// credentials endpoint.
//
// # What it guarantees
//
// An IMDS answer that needs a token is given only for a token that this handler
// issued and that has not expired. Tokens are authenticated, not stored, so no
// number of requests makes the handler grow. Incomplete credentials are an
// error, never an empty success.
//
// # What it does not do
//
// It has no hop limit, which is the IP layer's, no rate limit, and serves only
// the version "latest" of the metadata that clients of credentials ask for.
//
// # Documented behaviour it relies on
//
// "Use the Instance Metadata Service to access instance metadata" (EC2 user
// guide): PUT /latest/api/token with a lifetime of 1 to 21600 seconds, refused
// with 400 when the lifetime is missing or out of range and with 403 when an
// X-Forwarded-For header is present; the lifetime echoed in the answer; 401 for
// a missing token when version 1 is off, and for a bad or expired one always;
// 404 for what does not exist and 405 for a wrong method. A SageMaker notebook
// instance runs on a machine of AWS's own account and has an instance profile
// named BaseNotebookInstanceEc2InstanceRole, although its credentials are those
// of the customer's execution role. The container form is that of the ECS
// agent.
package metadata

import (
	"encoding/json"
	"fmt"
	"net/http"
	"sort"
	"strconv"
	"strings"
	"time"
)

// DefaultRoleName is the name of the instance profile and of the role that a
// SageMaker notebook instance lists, in AWS's own account.
const DefaultRoleName = "BaseNotebookInstanceEc2InstanceRole"

const (
	tokenPath   = "/latest/api/token"
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	maxTTL      = 21600 // seconds: six hours
)

// IMDSConfig describes one machine.
type IMDSConfig struct {
	// Credentials returns the machine's current session. An error is answered
	// 500. Required.
	Credentials func() (Credentials, error)
	// RoleName is listed under iam/security-credentials/; "" = DefaultRoleName.
	RoleName string
	Region   string // required
	// AvailabilityZone, "" = the region's zone a.
	AvailabilityZone string
	// AccountID owns the machine and its instance profile: for a notebook
	// instance an account of AWS, not the customer's.
	AccountID  string
	InstanceID string // required, such as i-0123456789abcdef0
	Partition  string // "" = aws
	AllowV1    bool   // also answer requests without a token
}

// NewIMDS serves the instance metadata of one machine.
func NewIMDS(cfg IMDSConfig) http.Handler {
	if cfg.RoleName == "" {
		cfg.RoleName = DefaultRoleName
	}
	if cfg.AvailabilityZone == "" {
		cfg.AvailabilityZone = cfg.Region + "a"
	}
	if cfg.Partition == "" {
		cfg.Partition = "aws"
	}
	s := &imds{cfg: cfg, tokens: newTokens(), started: time.Now()}
	s.leaves = s.tree()
	return s
}

type imds struct {
	cfg     IMDSConfig
	tokens  *tokens
	started time.Time
	leaves  map[string]leaf // by path, without a trailing slash
}

// leaf renders one document.
type leaf func() (string, error)

// ServeHTTP answers the token request and everything under /latest/.
func (s *imds) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Server", "EC2ws")
	if r.URL.Path == tokenPath {
		s.issue(w, r)
		return
	}
	if r.Method != http.MethodGet && r.Method != http.MethodHead {
		w.Header().Set("Allow", "GET, HEAD")
		fail(w, http.StatusMethodNotAllowed)
		return
	}
	if values := r.Header.Values(tokenHeader); len(values) > 0 || !s.cfg.AllowV1 {
		left, ok := s.tokens.check(strings.Join(values, ","), time.Now())
		if !ok {
			fail(w, http.StatusUnauthorized)
			return
		}
		w.Header().Set(ttlHeader, strconv.Itoa(int(left/time.Second)))
	}
	s.document(w, r.URL.Path)
}

func (s *imds) issue(w http.ResponseWriter, r *http.Request) {
	if r.Method != http.MethodPut {
		w.Header().Set("Allow", http.MethodPut)
		fail(w, http.StatusMethodNotAllowed)
		return
	}
	if len(r.Header.Values("X-Forwarded-For")) > 0 {
		fail(w, http.StatusForbidden)
		return
	}
	ttl, err := strconv.ParseUint(r.Header.Get(ttlHeader), 10, 16)
	if err != nil || ttl < 1 || ttl > maxTTL {
		fail(w, http.StatusBadRequest)
		return
	}
	w.Header().Set(ttlHeader, strconv.FormatUint(ttl, 10))
	text(w, s.tokens.issue(time.Now(), time.Duration(ttl)*time.Second))
}

func (s *imds) document(w http.ResponseWriter, path string) {
	clean := strings.TrimSuffix(path, "/")
	if render, ok := s.leaves[path]; ok {
		body, err := render()
		if err != nil {
			fail(w, http.StatusInternalServerError)
			return
		}
		text(w, body)
		return
	}
	if list := s.list(clean); list != "" {
		text(w, list)
		return
	}
	fail(w, http.StatusNotFound)
}

// list names the children of a directory, one a line, directories with a
// slash, without a final newline; "" when there is no such directory.
func (s *imds) list(dir string) string {
	seen := make(map[string]bool)
	for path := range s.leaves {
		rest, ok := strings.CutPrefix(path, dir+"/")
		if !ok {
			continue
		}
		name, _, isDir := strings.Cut(rest, "/")
		if isDir && dir != s.roleDir() {
			name += "/"
		}
		seen[name] = true
	}
	names := make([]string, 0, len(seen))
	for name := range seen {
		names = append(names, name)
	}
	sort.Strings(names)
	return strings.Join(names, "\n")
}

func (s *imds) roleDir() string { return "/latest/meta-data/iam/security-credentials" }

func (s *imds) tree() map[string]leaf {
	fixed := func(value string) leaf { return func() (string, error) { return value, nil } }
	dns := "amazonaws.com"
	if s.cfg.Partition == "aws-cn" {
		dns = "amazonaws.com.cn"
	}
	const meta = "/latest/meta-data/"
	return map[string]leaf{
		meta + "ami-id":                              fixed(imageID),
		meta + "instance-id":                         fixed(s.cfg.InstanceID),
		meta + "instance-type":                       fixed(instanceType),
		meta + "local-ipv4":                          fixed(privateIP),
		meta + "placement/availability-zone":         fixed(s.cfg.AvailabilityZone),
		meta + "placement/region":                    fixed(s.cfg.Region),
		meta + "services/domain":                     fixed(dns),
		meta + "services/partition":                  fixed(s.cfg.Partition),
		meta + "iam/info":                            s.info,
		s.roleDir() + "/" + s.cfg.RoleName:           s.credentials,
		"/latest/dynamic/instance-identity/document": s.identity,
	}
}

const (
	imageID      = "ami-0123456789abcdef0"
	instanceType = "ml.t3.medium"
	privateIP    = "10.0.0.10"
)

func (s *imds) credentials() (string, error) {
	c, err := s.cfg.Credentials()
	if err != nil {
		return "", err
	}
	if !c.complete() {
		return "", errIncomplete
	}
	return render(struct{ Code, LastUpdated, Type, AccessKeyId, SecretAccessKey, Token, Expiration string }{
		"Success", stamp(c.LastUpdated), "AWS-HMAC", c.AccessKeyID, c.SecretAccessKey, c.Token, stamp(c.Expiration),
	})
}

func (s *imds) info() (string, error) {
	updated := s.started
	if c, err := s.cfg.Credentials(); err == nil {
		updated = c.LastUpdated
	}
	return render(struct{ Code, LastUpdated, InstanceProfileArn, InstanceProfileId string }{
		"Success", stamp(updated),
		fmt.Sprintf("arn:%s:iam::%s:instance-profile/%s", s.cfg.Partition, s.cfg.AccountID, s.cfg.RoleName),
		"AIPAEXAMPLEEXAMPLEEXA",
	})
}

func (s *imds) identity() (string, error) {
	return render(struct {
		AccountID               string   `json:"accountId"`
		Architecture            string   `json:"architecture"`
		AvailabilityZone        string   `json:"availabilityZone"`
		BillingProducts         []string `json:"billingProducts"`
		DevpayProductCodes      []string `json:"devpayProductCodes"`
		MarketplaceProductCodes []string `json:"marketplaceProductCodes"`
		ImageID                 string   `json:"imageId"`
		InstanceID              string   `json:"instanceId"`
		InstanceType            string   `json:"instanceType"`
		KernelID                *string  `json:"kernelId"`
		PendingTime             string   `json:"pendingTime"`
		PrivateIP               string   `json:"privateIp"`
		RamdiskID               *string  `json:"ramdiskId"`
		Region                  string   `json:"region"`
		Version                 string   `json:"version"`
	}{
		AccountID: s.cfg.AccountID, Architecture: "x86_64", AvailabilityZone: s.cfg.AvailabilityZone,
		ImageID: imageID, InstanceID: s.cfg.InstanceID, InstanceType: instanceType,
		PendingTime: stamp(s.started), PrivateIP: privateIP, Region: s.cfg.Region, Version: "2017-09-30",
	})
}

func render(v any) (string, error) {
	body, err := json.MarshalIndent(v, "", "  ")
	return string(body), err
}

func text(w http.ResponseWriter, body string) {
	w.Header().Set("Content-Type", "text/plain")
	w.Header().Set("Content-Length", strconv.Itoa(len(body)))
	_, _ = w.Write([]byte(body)) // the client has gone; nobody is left to tell
}

// fail answers with the page that the metadata service sends for an error.
func fail(w http.ResponseWriter, status int) {
	title := fmt.Sprintf("%d - %s", status, http.StatusText(status))
	w.Header().Set("Content-Type", "text/html")
	w.WriteHeader(status)
	_, _ = fmt.Fprintf(w, `<?xml version="1.0" encoding="iso-8859-1"?>
<!DOCTYPE html PUBLIC "-//W3C//DTD XHTML 1.0 Transitional//EN"
	"http://www.w3.org/TR/xhtml1/DTD/xhtml1-transitional.dtd">
<html xmlns="http://www.w3.org/1999/xhtml" xml:lang="en" lang="en">
 <head>
  <title>%s</title>
 </head>
 <body>
  <h1>%s</h1>
 </body>
</html>
`, title, title)
}
