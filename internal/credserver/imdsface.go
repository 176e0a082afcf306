package credserver

import (
	"context"
	"net"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
	"github.com/nbidentityd/nbidentityd/internal/credserver/imdstoken"
	"github.com/nbidentityd/nbidentityd/internal/credserver/passthrough"
)

// MarkHeader is a header of every answer of the IMDS face, with
// IMDSConfig.Mark: by it the daemon tells its own answers from the platform's.
const MarkHeader = "Nbidentity-Mark"

// IMDSConfig says how the face of the instance metadata service behaves.
type IMDSConfig struct {
	// RoleName is what the list of roles holds; "" means "nbidentityd". SDKs
	// send it back and show it in their logs. It is no role's name in IAM.
	RoleName string
	// Metadata asks the real service for one path, such as
	// /latest/meta-data/placement/region; package passthrough says which. It
	// must end with its context, and is asked for one path at a time. nil: no
	// such path exists here.
	Metadata func(ctx context.Context, path string) (body []byte, contentType string, status int, err error)
	// Mark is sent as MarkHeader; "" sends none. It is no secret.
	Mark string
	// AllowV1 also answers requests without a token. Anything that can be made
	// to fetch a URL can then be made to fetch credentials.
	AllowV1 bool
	// Containers also answers callers of other network namespaces whose address
	// is in this network, and lets l be an address of a bridge: its own prefix
	// is what belongs here. Nothing but their address is known of them. A caller
	// elsewhere cannot claim one: what we send goes to the bridge.
	Containers netip.Prefix
}

const (
	tokenPath   = "/latest/api/token"
	rolesPath   = "/latest/meta-data/iam/security-credentials"
	tokenHeader = "X-Aws-Ec2-Metadata-Token"
	ttlHeader   = "X-Aws-Ec2-Metadata-Token-Ttl-Seconds"
	maxTTL      = 21600 // seconds
)

var (
	errTTL            = &refusal{code: "bad_request", message: ttlHeader + " must be a number of seconds from 1 to 21600"}
	errMetadataToken  = &refusal{code: "unauthorized", message: "a valid " + tokenHeader + " is needed; PUT " + tokenPath + " gives one"}
	errMetadataPath   = &refusal{code: "not_found", message: "there is no such path here"}
	errMetadataSilent = &refusal{code: "unreachable", message: "the instance metadata service has not answered"}
	errTokenMethod    = &refusal{code: "bad_request", message: "the method must be PUT"}
)

// imdsFace serves what SDKs ask of the instance metadata service, version 2.
type imdsFace struct {
	*face
	cfg    IMDSConfig
	role   string   // path of its document
	mark   []string // see IMDSConfig.Mark; nil: none
	hosts  hosts
	tokens *imdstoken.Issuer
	cache  *passthrough.Cache // nil: nothing passes
}

// ServeIMDS answers SDKs that look for the instance metadata service, on a TCP
// listener of 127.0.0.1 or [::1] (see also IMDSConfig.Containers), until ctx ends or l breaks. It closes l, and
// returns as Serve does. Callers get here by AWS_EC2_METADATA_SERVICE_ENDPOINT,
// which is http:// and l's address, or by packet rules that redirect the
// metadata service's own address.
func (s *Server) ServeIMDS(ctx context.Context, l net.Listener, cfg IMDSConfig) error {
	f := s.newIMDSFace(cfg)
	var fetching sync.WaitGroup
	defer fetching.Wait()
	running, stop := context.WithCancel(ctx)
	defer stop()
	if f.cache != nil {
		fetching.Go(func() { f.cache.Run(running) })
	}
	return f.serveTCP(ctx, l, cfg.Containers, func(port uint16) http.Handler {
		f.at(port)
		return f
	})
}

func (s *Server) newIMDSFace(cfg IMDSConfig) *imdsFace {
	if cfg.RoleName == "" {
		cfg.RoleName = "nbidentityd"
	}
	f := &imdsFace{
		cfg:    cfg,
		role:   rolesPath + "/" + cfg.RoleName,
		tokens: imdstoken.New(),
		face: s.newFace(face{
			name:      "imds",
			patience:  80 * time.Millisecond, // SDKs give up after 250
			leastLife: 25 * time.Minute,
			idle:      tcpIdle,
		}),
	}
	if cfg.Mark != "" {
		f.mark = []string{cfg.Mark}
	}
	if cfg.Metadata != nil {
		f.cache = passthrough.New(cfg.Metadata)
	}
	return f
}

// at says on which port f is called.
func (f *imdsFace) at(port uint16) { f.hosts = newHosts(port, "169.254.169.254", "fd00:ec2::254") }

func (f *imdsFace) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if f.mark != nil {
		w.Header()[MarkHeader] = f.mark
	}
	c := f.admitted(w, r)
	if c == nil {
		return
	}
	if !f.hosts.ours(r.Host) {
		f.refuse(w, r, http.StatusForbidden, errForeignHost)
		return
	}
	if r.URL.Path == tokenPath {
		f.serveToken(w, r, c)
		return
	}
	if r.Method != http.MethodGet {
		w.Header().Set("Allow", http.MethodGet)
		f.refuse(w, r, http.StatusMethodNotAllowed, errMethod)
		return
	}
	if r.ContentLength != 0 {
		f.refuse(w, r, http.StatusBadRequest, errBody)
		return
	}
	if !f.hasToken(r, c) {
		f.refuse(w, r, http.StatusUnauthorized, errMetadataToken)
		return
	}
	c.Asked()
	f.serveMetadata(w, r, c)
}

// serveToken answers PUT of tokenPath. There may be a body in chunks, of which
// some clients make an empty one: as long as that may come, the connection has
// not asked.
func (f *imdsFace) serveToken(w http.ResponseWriter, r *http.Request, c *gate.Conn) {
	if r.Method != http.MethodPut {
		w.Header().Set("Allow", http.MethodPut)
		f.refuse(w, r, http.StatusMethodNotAllowed, errTokenMethod)
		return
	}
	if r.ContentLength > 0 {
		f.refuse(w, r, http.StatusBadRequest, errBody)
		return
	}
	values := r.Header[ttlHeader]
	if len(values) != 1 {
		f.refuse(w, r, http.StatusBadRequest, errTTL)
		return
	}
	ttl, err := strconv.ParseUint(values[0], 10, 16)
	if err != nil || ttl < 1 || ttl > maxTTL {
		f.refuse(w, r, http.StatusBadRequest, errTTL)
		return
	}
	if r.ContentLength == 0 {
		c.Asked()
	}
	w.Header().Set(ttlHeader, strconv.FormatUint(ttl, 10))
	answer(w, http.StatusOK, "text/plain", []byte(f.tokens.Issue(c.Caller.Bearer(), time.Duration(ttl)*time.Second)))
}

// hasToken reports whether r bears a good token, or needs none.
// What was good on this connection is so again until it ends.
func (f *imdsFace) hasToken(r *http.Request, c *gate.Conn) bool {
	values := r.Header[tokenHeader]
	if len(values) != 1 {
		return len(values) == 0 && f.cfg.AllowV1
	}
	token := values[0]
	if token == c.Proof && token != "" {
		return f.tokens.Lives(token)
	}
	if !f.tokens.Valid(token, c.Caller.Bearer()) {
		return false
	}
	c.Proof = token
	return true
}

func (f *imdsFace) serveMetadata(w http.ResponseWriter, r *http.Request, c *gate.Conn) {
	switch path := r.URL.Path; {
	case strings.TrimSuffix(path, "/") == rolesPath:
		answer(w, http.StatusOK, "text/plain", []byte(f.cfg.RoleName))
	case path == f.role:
		what, err := f.vend(r.Context(), c)
		if err != nil {
			f.refuse(w, r, http.StatusServiceUnavailable, err)
			return
		}
		hand(w, plainType, what.IMDS)
	case f.cache != nil && passthrough.Passes(path):
		f.servePassed(w, r)
	default:
		f.serveMissing(w)
	}
}

func (f *imdsFace) servePassed(w http.ResponseWriter, r *http.Request) {
	a, err := f.cache.Get(r.Context(), r.URL.Path)
	switch {
	case err != nil:
		f.refuse(w, r, http.StatusServiceUnavailable, errMetadataSilent)
	case !a.Found:
		f.serveMissing(w)
	case a.JSON:
		answer(w, http.StatusOK, "application/json", a.Body)
	default:
		answer(w, http.StatusOK, "text/plain", a.Body)
	}
}

// serveMissing counts and does not log: SDKs try paths that need not exist.
func (f *imdsFace) serveMissing(w http.ResponseWriter) {
	f.countRefusal(errMetadataPath.code)
	refuse(w, http.StatusNotFound, errMetadataPath.code, errMetadataPath.message)
}
