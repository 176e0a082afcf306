package fakeaws

import (
	"crypto/rand"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/directory"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/fault"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/resource"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
)

// maxBody bounds a request; an upload to S3 may not be larger either.
const maxBody = 16 << 20

// exchange is one signed call whose caller is known.
type exchange struct {
	*Account
	http    *http.Request
	call    *wire.Call
	session *directory.Session
	caller  iameval.Caller
	scope   resource.Scope // with the region of the call
	now     time.Time
	id      string // request id
}

// answer is what a call returns when it is granted.
type answer struct {
	status      int // 0 = 200
	contentType string
	body        []byte
	header      map[string]string
	// parameters replace the request's own in the record.
	parameters any
	elements   any // responseElements
	resources  []cloudtrail.Resource
}

// serveAPI answers one call: who signed it, what it asks for, whether that is
// allowed, and the record.
func (a *Account) serveAPI(w http.ResponseWriter, r *http.Request) {
	id := newUUID()
	body, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	service := serviceOf(r)
	w.Header().Set("Date", a.now(service).Format(http.TimeFormat)) // clients mend their clock by it
	call, parseErr := wire.Parse(r, body, service)
	if err != nil {
		var large *http.MaxBytesError
		if errors.As(err, &large) {
			wire.RespondError(w, r, call, &wire.Error{Status: 413, Code: "RequestEntityTooLarge", Message: "Request exceeds the maximum size"}, id)
		}
		return // else the client has gone
	}
	if service == "sts" && !a.withinQuota() {
		wire.RespondError(w, r, call, wire.Throttled(call.Protocol), id)
		return
	}
	x, refused := a.authenticate(r, body, call)
	if refused != nil {
		a.rejectCall(r, service, refused)
		wire.RespondError(w, r, call, wire.Unauthenticated(call.Protocol, refused), id)
		return
	}
	x.id = id
	var done answer
	failure := parseErr
	if failure == nil {
		done, failure = x.perform()
	}
	if call.Operation != "" {
		a.trail.Add(x.record(done, failure))
	}
	for k, v := range done.header {
		w.Header().Set(k, v)
	}
	if failure != nil {
		wire.RespondError(w, r, call, failure, id)
		return
	}
	if done.status == 0 {
		done.status = http.StatusOK
	}
	wire.Respond(w, r, call.Protocol, done.status, done.contentType, done.body, id)
}

// serviceOf returns the signing name of the service that r is for.
func serviceOf(r *http.Request) string {
	if c, _ := sigv4.Read(r); c.Service != "" {
		return c.Service
	}
	service, _ := hostScope(r.Host)
	return service
}

// hostScope tells service and region from an AWS host name; either may be "".
func hostScope(host string) (service, region string) {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	name, ok := strings.CutSuffix(host, ".amazonaws.com")
	if !ok {
		if name, ok = strings.CutSuffix(host, ".amazonaws.com.cn"); !ok {
			if name, ok = strings.CutSuffix(host, ".api.aws"); !ok {
				return "", ""
			}
		}
	}
	for _, label := range strings.Split(name, ".") {
		switch label = strings.TrimSuffix(label, "-fips"); {
		case label == "sts", label == "iam", label == "sagemaker", label == "athena", label == "s3", label == "ec2", label == "cloudtrail":
			service = label
		case strings.Count(label, "-") >= 2 && label[len(label)-1] >= '0' && label[len(label)-1] <= '9':
			region = label
		}
	}
	switch {
	case service == "s3":
		region = "" // it answers for every region here
	case host == "sts.amazonaws.com" || host == "iam.amazonaws.com":
		region = "us-east-1" // global endpoints take no other scope
	}
	return service, region
}

// authenticate verifies the signature and returns the call with its caller.
func (a *Account) authenticate(r *http.Request, body []byte, call *wire.Call) (*exchange, *sigv4.Error) {
	x := &exchange{Account: a, http: r, call: call, now: a.now(call.Service), scope: a.scope}
	var role *directory.Role
	credential, err := sigv4.Verify(r, body, x.now, func(keyID, token string) (string, error) {
		s, found, err := a.directory.Lookup(keyID, token, x.now)
		if err != nil {
			return "", err
		}
		x.session, role = s, found
		return s.Secret, nil
	})
	if err != nil {
		var refused *sigv4.Error
		if !errors.As(err, &refused) { // Verify's errors are all of that type
			refused = &sigv4.Error{Code: sigv4.SignatureDoesNotMatch, Message: err.Error()}
		}
		return nil, refused
	}
	hostService, hostRegion := hostScope(r.Host)
	if hostService != "" && hostService != credential.Service {
		return nil, &sigv4.Error{Code: sigv4.SignatureDoesNotMatch, Message: "Credential should be scoped to correct service: '" + hostService + "'."}
	}
	if hostRegion != "" && hostRegion != credential.Region {
		return nil, &sigv4.Error{Code: sigv4.SignatureDoesNotMatch, Message: "Credential should be scoped to a valid region."}
	}
	x.scope.Region = credential.Region
	x.caller = a.directory.Caller(x.session, role)
	return x, nil
}

func (a *Account) rejectCall(r *http.Request, service string, e *sigv4.Error) {
	c, _ := sigv4.Read(r)
	a.reject(Rejection{
		Time: a.now(service), Service: service, Code: string(e.Code),
		KeyEnd: c.KeyID[max(0, len(c.KeyID)-4):], SourceIP: sourceIP(r), Agent: r.UserAgent(),
	})
}

// withinQuota counts an STS call.
func (a *Account) withinQuota() bool {
	if a.quota == 0 {
		return true
	}
	second := a.now("sts").Unix()
	a.mu.Lock()
	defer a.mu.Unlock()
	if second != a.second {
		a.second, a.counted = second, 0
	}
	a.counted++
	return a.counted <= a.quota
}

// perform authorises and answers the call.
func (x *exchange) perform() (answer, *wire.Error) {
	switch x.call.Service {
	case "sts":
		return x.sts()
	case "sagemaker":
		return x.sageMaker()
	case "iam":
		if read := iamReads(x.call.Operation); read != nil {
			return read(x)
		}
	case "s3":
		return x.s3()
	case "cloudtrail":
		if x.call.Operation == "LookupEvents" {
			return x.lookupEvents()
		}
	}
	return x.generic(x.scope.Of(x.call))
}

// authorize decides an action by the caller's identity and session policies.
// extra are condition keys of the action.
func (x *exchange) authorize(action, arn string, extra map[string][]string) *wire.Error {
	keys := x.caller.Context(x.now, x.scope.Region)
	for k, v := range x.network() {
		keys[k] = v
	}
	for k, v := range extra {
		keys[k] = v
	}
	req := iameval.Request{Principal: x.caller.Principal, Action: action, Resource: arn, Context: keys}
	kind, d := "identity-based", iameval.EvaluateIdentity(x.caller.Policies, req)
	if x.session.Policies != nil && d.Outcome == iameval.Allowed {
		kind, d = "session", iameval.EvaluateIdentity(x.session.Policies, req)
	}
	if d.Outcome == iameval.Allowed {
		return nil
	}
	why := fmt.Sprintf("because no %s policy allows the %s action", kind, action)
	if d.Outcome == iameval.ExplicitDeny {
		article := "an "
		if kind == "session" {
			article = "a "
		}
		why = "with an explicit deny in " + article + kind + " policy"
	}
	on := ""
	if arn != "*" {
		on = " on resource: " + x.named(arn)
	}
	message := fmt.Sprintf("User: %s is not authorized to perform: %s%s %s", x.session.ARN, action, on, why)
	if x.call.Protocol == wire.EC2 {
		message = "You are not authorized to perform this operation. " + message
	}
	return wire.Denied(x.call.Protocol, message)
}

// named spells an ARN as the service's refusals do.
func (x *exchange) named(arn string) string {
	switch x.call.Service {
	case "s3":
		return `"` + arn + `"`
	case "iam":
		if i := strings.Index(arn, ":role/"); i > 0 {
			return "role " + arn[strings.LastIndexByte(arn, '/')+1:]
		}
		if strings.Contains(arn, ":policy/") {
			return "policy " + arn
		}
	}
	return arn
}

// network are the condition keys about how the request came.
func (x *exchange) network() map[string][]string {
	keys := map[string][]string{
		"aws:sourceip":        {sourceIP(x.http)},
		"aws:securetransport": {"true"},
		"aws:useragent":       {x.http.UserAgent()},
		"aws:resourceaccount": {x.scope.Account},
	}
	if x.http.TLS == nil {
		keys["aws:securetransport"] = []string{"false"}
	}
	return keys
}

// record is the call's CloudTrail record.
func (x *exchange) record(done answer, failure *wire.Error) Record {
	c := x.call
	r := Record{
		EventVersion:       cloudtrail.Version,
		UserIdentity:       x.identity(),
		EventTime:          cloudtrail.Time(x.now),
		EventSource:        c.Source(),
		EventName:          c.Operation,
		AWSRegion:          x.scope.Region,
		SourceIPAddress:    sourceIP(x.http),
		UserAgent:          x.http.UserAgent(),
		RequestParameters:  done.parameters,
		ResponseElements:   done.elements,
		RequestID:          x.id,
		EventID:            newUUID(),
		ReadOnly:           c.ReadOnly(),
		Resources:          done.resources,
		EventType:          "AwsApiCall",
		ManagementEvent:    !c.Data(),
		RecipientAccountID: x.scope.Account,
		EventCategory:      "Management",
	}
	if c.Data() {
		r.EventCategory = "Data"
	}
	if r.RequestParameters == nil && c.Service != "sts" {
		r.RequestParameters = c.Parameters()
	}
	switch c.Service {
	case "s3":
		r.UserAgent = "[" + r.UserAgent + "]"
		r.AdditionalEventData = x.s3Details(len(done.body))
	case "sts":
		r.AdditionalEventData = x.stsDetails()
	}
	if failure != nil {
		r.ErrorCode, r.ErrorMessage = failure.TrailCode(c.Protocol), failure.Message
		r.ResponseElements, r.Resources = nil, nil
		if c.Service == "sts" || failure.Denied && c.Protocol != wire.EC2 && c.Protocol != wire.S3 {
			r.RequestParameters = nil
		}
	}
	if t := x.http.TLS; t != nil {
		r.TLSDetails = &cloudtrail.TLSDetails{
			TLSVersion:               strings.ReplaceAll(tls.VersionName(t.Version), "TLS ", "TLSv"),
			CipherSuite:              tls.CipherSuiteName(t.CipherSuite),
			ClientProvidedHostHeader: x.http.Host,
		}
	}
	return r
}

func (x *exchange) identity() cloudtrail.UserIdentity {
	s := x.session
	return cloudtrail.UserIdentity{
		Type:        "AssumedRole",
		PrincipalID: s.ID(),
		ARN:         s.ARN,
		AccountID:   x.scope.Account,
		AccessKeyID: s.KeyID,
		SessionContext: &cloudtrail.SessionContext{
			SessionIssuer: cloudtrail.SessionIssuer{
				Type: "Role", PrincipalID: s.RoleID, ARN: x.caller.RoleARN,
				AccountID: x.scope.Account, UserName: s.RoleName,
			},
			Attributes:     cloudtrail.Attributes{CreationDate: cloudtrail.Time(s.Issued), MFAAuthenticated: "false"},
			SourceIdentity: s.SourceIdentity,
		},
	}
}

func sourceIP(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}

// renderFault words a switched-on fault as the service would.
func (a *Account) renderFault(w http.ResponseWriter, r *http.Request, service string, f fault.Fault) {
	if service == "imds" || service == "container" {
		http.Error(w, http.StatusText(f.Status), max(f.Status, 429))
		return
	}
	body, _ := io.ReadAll(io.LimitReader(r.Body, maxBody)) // only for the wording
	call, _ := wire.Parse(r, body, service)
	e := wire.Throttled(call.Protocol)
	if f.Kind == fault.Failure {
		e = wire.Failed(call.Protocol, f.Status)
	}
	wire.RespondError(w, r, call, e, newUUID())
}

func newUUID() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // never fails: the runtime stops the program instead
	b[6], b[8] = b[6]&0x0f|0x40, b[8]&0x3f|0x80
	return fmt.Sprintf("%x-%x-%x-%x-%x", b[:4], b[4:6], b[6:8], b[8:10], b[10:])
}
