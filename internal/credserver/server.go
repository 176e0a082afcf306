// Package credserver hands the credentials of one aws.CredentialsProvider to
// the processes of this machine, and decides who may have them.
//
// It has three faces, each served on a listener of its own:
//   - a unix socket (Serve): GET /v1/credentials (one process-credentials JSON
//     object and a newline), GET /v1/status (JSON, or people's text for
//     "Accept: text/plain"), GET /metrics (Prometheus), and POST and DELETE of
//     /v1/profiles/NAME, which change the asking user's own AWS configuration;
//   - container credentials on loopback (ServeContainer), with a token for each
//     user (package authtoken);
//   - the instance metadata service, version 2 (ServeIMDS), with the machine's
//     own metadata passed through (package passthrough).
//
// It guarantees:
//   - only root, the daemon's own uid and Config.AllowUIDs get an answer other
//     than 403; the uid is the kernel's word (packages peer and sockowner),
//     never the caller's. Callers over TCP that the kernel cannot name are
//     refused; IMDSConfig.Containers makes an exception for those of other
//     network namespaces, whose line in the log has their address and no uid;
//   - a credential that is empty, without expiry or expired by the wall clock
//     is never handed out, whatever the provider returns, and the expiry that
//     is handed out is never later than the true one. One with so little life
//     that its clients will ask at each call is handed out and counted;
//   - each credential handed out has its line given to the log before the first
//     byte is sent (package journal says when it is written), with uid, face, end of the key id and expiry, and with pid and
//     program (unix) or address (TCP); no log line, metric or error holds a
//     secret;
//   - a browser's page, a proxy and a name that was made to lead here (DNS
//     rebinding) are refused at each request;
//   - one uid cannot take another's place: connections are bounded, each
//     allowed uid owns a share, and a share that is full drops its own oldest
//     connection that is not being answered. Slow and idle callers are cut off.
//     A user with many connections at once is answered one request after the
//     other, and slowly when it is a crowd of them, on all faces together, so
//     that another one's call does not wait behind them;
//   - refusals are logged at a bounded rate, and what is left out is counted.
//
// It does not guarantee that a caller keeps the credential to itself, nor that
// the program in the audit line is the one that uses it (see package peer). The
// provider must answer from memory and respect its context: the server adds no
// cache or deadline of its own around a provider that hangs.
//
// On the unix socket one connection carries one request: so each request has
// its own peer check by the kernel. SDKs send the metadata service three on one
// connection; over TCP the owner of a socket cannot change, so the check at its
// start holds for all.
//
// What needs no face is in rooms of its own: where to listen (listener), who calls
// (caller), who has a place and a turn and until when (gate), the forms of a
// credential (document), the log of refusals (refusals). The rest is more than 500
// lines because the three faces share their checks and their refusals, and answer
// with the same credential.
//
// It relies on what AWS documents: for process credentials (AWS SDKs and Tools
// Reference Guide, "Process credential provider") Version is the number 1,
// Expiration is ISO 8601, and a session without Expiration is never refreshed;
// for container credentials ("Container credential provider") the Authorization
// header is the token file's content as it stands; for the metadata service (EC2
// User Guide, "Use the Instance Metadata Service") a token lives 1 to 21600
// seconds, its PUT echoes the time and is refused with X-Forwarded-For, and a
// bad or missing token is answered 401.
package credserver

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"sync/atomic"
	"time"

	"github.com/VictoriaMetrics/metrics"
	"github.com/aws/aws-sdk-go-v2/aws"
	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/credserver/caller"
	"github.com/nbidentityd/nbidentityd/internal/credserver/gate"
	"github.com/nbidentityd/nbidentityd/internal/credserver/refusals"
	"github.com/nbidentityd/nbidentityd/internal/status"
)

// Limits of one connection.
const (
	readTimeout     = 2 * time.Second // of a request
	answerTimeout   = 3 * time.Second // to write, when there is something to say
	tcpIdle         = 5 * time.Second // between an SDK's requests of one kind
	shutdownTimeout = 5 * time.Second
	maxHeaderBytes  = 4 << 10
	defaultMaxConns = 512

	// firstCredentialWait is how long the unix socket waits for a source that
	// has just started. The client gives up after 3.5 s, so an answer later
	// than that helps nobody.
	firstCredentialWait = 3 * time.Second
)

// Config says what to serve and to whom.
type Config struct {
	// Credentials answers from memory. It may wait for its first credential
	// until its context ends, and returns an error whose Code method names the
	// cause (otherwise the code is "failed").
	Credentials aws.CredentialsProvider
	// Status describes the daemon. The server fills in Vends and Failures.
	Status func() status.Report
	// Profiles serves POST and DELETE of /v1/profiles/NAME on the unix socket;
	// nil refuses them.
	Profiles Profiles
	// AllowUIDs are the uids that may ask, besides root and the daemon's own.
	AllowUIDs []uint32
	// MaxConns bounds the open connections of one face; 0 means 512. The
	// allowed uids share it equally, but each has at least 16.
	MaxConns int
	// Metrics receives the server's metrics and is what /metrics shows; nil
	// means a set of the server's own.
	Metrics *metrics.Set
	// Version is shown in the build_info metric.
	Version string
	Log     *zap.Logger
	// Audit takes the lines of credentials handed out; nil means Log.
	Audit *zap.Logger
}

// Server serves one provider. Its methods may be used concurrently.
type Server struct {
	credentials aws.CredentialsProvider
	report      func() status.Report
	profiles    Profiles
	uids        []uint32 // allowed, without duplicates
	queues      *gate.Queues
	maxConns    int
	metrics     *metrics.Set
	log         *zap.Logger
	audit       *zap.Logger
	refusals    *refusals.Log

	latest   atomic.Pointer[credential] // of the provider
	vends    atomic.Uint64
	failures atomic.Uint64
}

// New returns a server that serves nothing until Serve is called.
func New(cfg Config) *Server {
	s := &Server{
		credentials: cfg.Credentials,
		report:      cfg.Status,
		profiles:    cfg.Profiles,
		uids:        []uint32{0},
		maxConns:    cfg.MaxConns,
		metrics:     cfg.Metrics,
		log:         cfg.Log,
		audit:       cfg.Audit,
	}
	if s.report == nil {
		s.report = func() status.Report { return status.Report{} }
	}
	if s.maxConns <= 0 {
		s.maxConns = defaultMaxConns
	}
	if s.metrics == nil {
		s.metrics = metrics.NewSet()
	}
	if s.log == nil {
		s.log = zap.NewNop()
	}
	if s.audit == nil {
		s.audit = s.log
	}
	s.log, s.audit = s.log.Named("credserver"), s.audit.Named("credserver")
	s.refusals = refusals.New(s.log)
	for _, uid := range append([]uint32{uint32(os.Geteuid())}, cfg.AllowUIDs...) {
		if uid != caller.NoUID && !s.allowed(uid) {
			s.uids = append(s.uids, uid)
		}
	}
	s.queues = gate.NewQueues(s.uids)
	s.register(cfg.Version)
	return s
}

func (s *Server) allowed(uid uint32) bool {
	for _, u := range s.uids {
		if u == uid {
			return true
		}
	}
	return false
}

// Serve answers on the unix listener l, from package listener or from systemd,
// until ctx ends or l breaks. It closes l, and returns when the last connection is
// done or has been cut off: nil after ctx ended, else what broke.
func (s *Server) Serve(ctx context.Context, l net.Listener) error {
	if n := l.Addr().Network(); n != "unix" {
		return errors.Join(fmt.Errorf("serving on %s: want a unix socket, got %q", l.Addr(), n), l.Close())
	}
	f := s.newUnixFace()
	return f.serve(ctx, f.gate(l, false, caller.OnUnix), f)
}

func (s *Server) newUnixFace() unixFace {
	return unixFace{s.newFace(face{name: "unix", patience: firstCredentialWait, leastLife: 15 * time.Minute})}
}
