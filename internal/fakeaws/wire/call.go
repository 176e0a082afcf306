// Package wire reads AWS requests into calls and writes AWS errors, in the
// wire protocols that AWS services use.
//
// It guarantees the documented shapes: "Query" (STS, IAM, …) and its EC2
// dialect in XML, JSON 1.0 and 1.1 with X-Amz-Target, REST-JSON with
// X-Amzn-Errortype, S3's REST-XML, and Smithy RPC v2 CBOR. Codes, statuses
// and texts of refused authentication and authorisation differ between these,
// and so do they here. It decides nothing about who may do what.
//
// Operations of REST services are recognised from method and path where the
// package knows the service (S3, Lake Formation, SageMaker Runtime); for other
// REST services a name is derived from them (GET …/functions → ListFunctions),
// which is good enough to leave a trace but not to match every IAM action.
//
// The package is longer than most because it reads six protocols into one kind
// of call, and writes one kind of error in all of them.
package wire

import (
	"bytes"
	"encoding/json"
	"mime"
	"net/http"
	"net/url"
	"strings"
)

// Protocol is a wire protocol.
type Protocol string

// The protocols.
const (
	Query    Protocol = "query"
	EC2      Protocol = "ec2"
	JSON     Protocol = "json" // 1.0 and 1.1
	RESTJSON Protocol = "rest-json"
	S3       Protocol = "rest-xml"
	CBOR     Protocol = "rpc-v2-cbor"
)

// Call is one request, told apart.
type Call struct {
	Service   string // signing name, such as "sts" or "monitoring"
	Protocol  Protocol
	Operation string // API operation and CloudTrail event name, such as "AssumeRole"
	Action    string // IAM action, such as "s3:ListBucket"

	Form   url.Values     // parameters of Query and EC2
	Body   map[string]any // parameters of JSON and RESTJSON; numbers are json.Number
	Bucket string         // S3
	Key    string         // S3
	Type   string         // content type of a JSON request, which its answer repeats

	s3Host string // host that S3 records
}

// Source is the CloudTrail eventSource.
func (c *Call) Source() string { return c.Service + ".amazonaws.com" }

// Data reports whether the call is a data event rather than a management
// event.
func (c *Call) Data() bool {
	return c.Protocol == S3 && c.Bucket != "" && !strings.Contains(c.Operation, "Bucket") || strings.HasPrefix(c.Operation, "Invoke")
}

// readVerbs begin the names of operations that change nothing.
var readVerbs = []string{"Get", "List", "Describe", "Head", "BatchGet", "Lookup", "Search", "Query", "Scan", "Select", "Filter", "Test", "Validate", "Simulate", "Decode", "Decrypt", "GenerateDataKey", "Verify", "Assume"}

// ReadOnly is CloudTrail's readOnly; AssumeRole counts as read-only there.
func (c *Call) ReadOnly() bool {
	for _, v := range readVerbs {
		if strings.HasPrefix(c.Operation, v) {
			return true
		}
	}
	return false
}

// prefixes are the IAM action prefixes that differ from the signing name.
var prefixes = map[string]string{
	"monitoring": "cloudwatch", "email": "ses", "tagging": "tag", "states": "states",
	"s3express": "s3express", "awsssooidc": "sso-oauth", "emr-containers": "emr-containers",
}

func iamAction(service, operation string) string {
	if p, ok := prefixes[service]; ok {
		service = p
	}
	return service + ":" + operation
}

// Parse tells what r asks for. service is the signing name in the request's
// credential scope and body is all of r's body.
func Parse(r *http.Request, body []byte, service string) (*Call, *Error) {
	c := &Call{Service: service}
	mediaType, _, _ := mime.ParseMediaType(r.Header.Get("Content-Type"))
	switch target := r.Header.Get("X-Amz-Target"); {
	case service == "s3":
		c.Protocol = S3
		return c, c.parseS3(r)
	case r.Header.Get("Smithy-Protocol") == "rpc-v2-cbor":
		c.Protocol = CBOR
		c.Operation = lastSegment(r.URL.Path)
	case target != "":
		c.Protocol, c.Type = JSON, jsonType(mediaType)
		c.Operation = target[strings.LastIndexByte(target, '.')+1:]
		if err := c.parseJSON(body); err != nil {
			return c, err
		}
	case queryService(service) || mediaType == "application/x-www-form-urlencoded":
		c.Protocol = Query
		if service == "ec2" {
			c.Protocol = EC2
		}
		if err := c.parseForm(r, mediaType, body); err != nil {
			return c, err
		}
	default:
		c.Protocol = RESTJSON
		c.Operation = restOperation(r, service)
		if mediaType == "application/json" && len(body) > 0 {
			if err := c.parseJSON(body); err != nil {
				return c, err
			}
		}
	}
	if !operationName(c.Operation) {
		c.Operation = ""
		return c, &Error{Status: 404, Code: "UnknownOperationException", Message: "The requested operation is not recognized by the service."}
	}
	c.Action = iamAction(service, c.Operation)
	return c, nil
}

// jsonType is the content type of the answer to a JSON request.
func jsonType(mediaType string) string {
	if mediaType == "application/x-amz-json-1.0" {
		return mediaType
	}
	return "application/x-amz-json-1.1"
}

// queryService lists the services that speak Query even in a GET without a
// content type.
func queryService(service string) bool {
	switch service {
	case "sts", "iam", "ec2", "sns", "autoscaling", "cloudformation", "elasticloadbalancing", "rds", "redshift", "elasticache", "email":
		return true
	}
	return false
}

func (c *Call) parseForm(r *http.Request, mediaType string, body []byte) *Error {
	form, err := url.ParseQuery(r.URL.RawQuery)
	if err != nil {
		return &Error{Status: 400, Code: "MalformedQueryString", Message: "The query string contains a syntax error"}
	}
	if mediaType == "application/x-www-form-urlencoded" {
		more, err := url.ParseQuery(string(body))
		if err != nil {
			return &Error{Status: 400, Code: "MalformedQueryString", Message: "The query string contains a syntax error"}
		}
		for k, v := range more {
			form[k] = append(form[k], v...)
		}
	}
	c.Form = form
	if c.Operation = form.Get("Action"); c.Operation == "" {
		return &Error{Status: 400, Code: "MissingAction", Message: "Missing Action"}
	}
	return nil
}

func (c *Call) parseJSON(body []byte) *Error {
	if len(bytes.TrimSpace(body)) == 0 {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	if err := d.Decode(&c.Body); err != nil || d.More() {
		return &Error{Status: 400, Code: "SerializationException", Message: "Unable to parse the request as a JSON object"}
	}
	return nil
}

// Text returns a string member of a JSON request, or "".
func (c *Call) Text(name string) string {
	s, _ := c.Body[name].(string)
	return s
}

// operationName reports whether s may be an operation's name: it reaches
// records, IAM actions and answers.
func operationName(s string) bool {
	if s == "" || len(s) > 100 {
		return false
	}
	for _, r := range s {
		if (r < 'a' || r > 'z') && (r < 'A' || r > 'Z') && (r < '0' || r > '9') {
			return false
		}
	}
	return true
}

func lastSegment(path string) string {
	return path[strings.LastIndexByte(path, '/')+1:]
}

// restOperation names the operation of a REST-JSON request.
func restOperation(r *http.Request, service string) string {
	segments := strings.FieldsFunc(r.URL.Path, func(c rune) bool { return c == '/' })
	switch {
	case service == "lakeformation" && len(segments) == 1:
		return segments[0] // POST /GetDataAccess
	case service == "sagemaker" && len(segments) == 3 && segments[0] == "endpoints":
		switch segments[2] { // SageMaker Runtime
		case "invocations":
			return "InvokeEndpoint"
		case "async-invocations":
			return "InvokeEndpointAsync"
		case "invocations-response-stream":
			return "InvokeEndpointWithResponseStream"
		}
	}
	verb := map[string]string{"GET": "Get", "HEAD": "Head", "POST": "Post", "PUT": "Put", "PATCH": "Patch", "DELETE": "Delete"}[r.Method]
	if len(segments) > 0 && segments[0][0] >= '0' && segments[0][0] <= '9' {
		segments = segments[1:] // a version such as 2015-03-31
	}
	noun := "Root"
	if len(segments) > 0 {
		noun = segments[0]
	}
	if verb == "Get" && len(segments) == 1 && strings.HasSuffix(noun, "s") {
		verb = "List"
	}
	var name strings.Builder
	for _, word := range strings.FieldsFunc(noun, func(c rune) bool { return c == '-' || c == '_' || c == '.' }) {
		name.WriteString(strings.ToUpper(word[:1]) + word[1:])
	}
	if verb == "" {
		return ""
	}
	return verb + name.String()
}
