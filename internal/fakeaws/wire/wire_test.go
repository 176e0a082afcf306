package wire

import (
	"encoding/json"
	"encoding/xml"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/sigv4"
)

func request(method, target, body string, header ...string) *http.Request {
	r := httptest.NewRequest(method, target, strings.NewReader(body))
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return r
}

func TestS3Operations(t *testing.T) {
	for _, tt := range []struct{ method, url, bucket, key, operation, action string }{
		{"GET", "http://s3.us-east-1.amazonaws.com/", "", "", "ListBuckets", "s3:ListAllMyBuckets"},
		{"GET", "http://127.0.0.1:80/b", "b", "", "ListObjects", "s3:ListBucket"},
		{"GET", "http://127.0.0.1/b/?list-type=2", "b", "", "ListObjects", "s3:ListBucket"},
		{"GET", "http://b.localhost:80/?list-type=2", "b", "", "ListObjects", "s3:ListBucket"},
		{"GET", "http://b.s3.us-east-1.amazonaws.com/", "b", "", "ListObjects", "s3:ListBucket"},
		{"GET", "http://b.s3.amazonaws.com/?location", "b", "", "GetBucketLocation", "s3:GetBucketLocation"},
		{"GET", "http://a.s3.b.s3.us-east-1.amazonaws.com/k/l", "a.s3.b", "k/l", "GetObject", "s3:GetObject"},
		{"GET", "http://b.s3.dualstack.us-west-2.amazonaws.com/k", "b", "k", "GetObject", "s3:GetObject"},
		{"GET", "http://b.s3-us-west-2.amazonaws.com/k", "b", "k", "GetObject", "s3:GetObject"},
		{"HEAD", "http://127.0.0.1/b", "b", "", "HeadBucket", "s3:ListBucket"},
		{"HEAD", "http://127.0.0.1/b/k", "b", "k", "HeadObject", "s3:GetObject"},
		{"PUT", "http://127.0.0.1/b/k", "b", "k", "PutObject", "s3:PutObject"},
		{"PUT", "http://127.0.0.1/b/k?partNumber=1&uploadId=u", "b", "k", "UploadPart", "s3:PutObject"},
		{"POST", "http://127.0.0.1/b/k?uploads", "b", "k", "CreateMultipartUpload", "s3:PutObject"},
		{"POST", "http://127.0.0.1/b/k?uploadId=u", "b", "k", "CompleteMultipartUpload", "s3:PutObject"},
		{"POST", "http://127.0.0.1/b?delete", "b", "", "DeleteObjects", "s3:DeleteObject"},
		{"DELETE", "http://127.0.0.1/b/k", "b", "k", "DeleteObject", "s3:DeleteObject"},
		{"DELETE", "http://127.0.0.1/b", "b", "", "DeleteBucket", "s3:DeleteBucket"},
		{"PUT", "http://127.0.0.1/b", "b", "", "CreateBucket", "s3:CreateBucket"},
		{"POST", "http://127.0.0.1/b", "b", "", "", ""},
		{"PATCH", "http://127.0.0.1/", "", "", "", ""},
	} {
		c, err := Parse(request(tt.method, tt.url, ""), nil, "s3")
		if (err != nil) != (tt.operation == "") {
			t.Errorf("%s %s: %v", tt.method, tt.url, err)
		}
		got := []string{c.Bucket, c.Key, c.Operation, c.Action}
		if diff := cmp.Diff([]string{tt.bucket, tt.key, tt.operation, tt.action}, got); diff != "" {
			t.Errorf("%s %s:\n%s", tt.method, tt.url, diff)
		}
	}
}

func TestParse(t *testing.T) {
	const form = "application/x-www-form-urlencoded"
	for _, tt := range []struct {
		service   string
		r         *http.Request
		body      string
		protocol  Protocol
		operation string
		action    string
		code      string
	}{
		{"sts", request("POST", "/", "", "Content-Type", form), "Action=AssumeRole&Version=1", Query, "AssumeRole", "sts:AssumeRole", ""},
		{"sts", request("GET", "/?Action=GetCallerIdentity", ""), "", Query, "GetCallerIdentity", "sts:GetCallerIdentity", ""},
		{"sts", request("POST", "/", "", "Content-Type", form), "", Query, "", "", "MissingAction"},
		{"ec2", request("POST", "/", "", "Content-Type", form), "Action=RunInstances", EC2, "RunInstances", "ec2:RunInstances", ""},
		{"monitoring", request("POST", "/", "", "Content-Type", form), "Action=PutMetricData", Query, "PutMetricData", "cloudwatch:PutMetricData", ""},
		{"monitoring", request("POST", "/service/X/operation/PutMetricData", "", "Smithy-Protocol", "rpc-v2-cbor"), "", CBOR, "PutMetricData", "cloudwatch:PutMetricData", ""},
		{"sagemaker", request("POST", "/", "", "X-Amz-Target", "SageMaker.DescribeSpace", "Content-Type", "application/x-amz-json-1.1"), `{"a":1}`, JSON, "DescribeSpace", "sagemaker:DescribeSpace", ""},
		{"dynamodb", request("POST", "/", "", "X-Amz-Target", "DynamoDB_20120810.GetItem", "Content-Type", "application/x-amz-json-1.0"), `{}`, JSON, "GetItem", "dynamodb:GetItem", ""},
		{"athena", request("POST", "/", "", "X-Amz-Target", "AmazonAthena."), `{}`, JSON, "", "", "UnknownOperationException"},
		{"athena", request("POST", "/", "", "X-Amz-Target", "A.B"), `{} x`, JSON, "B", "", "SerializationException"},
		{"lambda", request("GET", "/2015-03-31/functions/", ""), "", RESTJSON, "ListFunctions", "lambda:ListFunctions", ""},
		{"lambda", request("GET", "/2015-03-31/functions/f", ""), "", RESTJSON, "GetFunctions", "lambda:GetFunctions", ""},
		{"lakeformation", request("POST", "/GetDataAccess", "", "Content-Type", "application/json"), `{}`, RESTJSON, "GetDataAccess", "lakeformation:GetDataAccess", ""},
		{"x", request("GET", "/", ""), "", RESTJSON, "GetRoot", "x:GetRoot", ""},
		{"x", request("GET", "/%3Cscript%3E", ""), "", RESTJSON, "", "", "UnknownOperationException"},
		{"x", request("BREW", "/a", ""), "", RESTJSON, "", "", "UnknownOperationException"},
	} {
		c, err := Parse(tt.r, []byte(tt.body), tt.service)
		code := ""
		if err != nil {
			code = err.Code
		}
		if diff := cmp.Diff([]string{string(tt.protocol), tt.operation, tt.action, tt.code}, []string{string(c.Protocol), c.Operation, c.Action, code}); diff != "" {
			t.Errorf("%s %s %s:\n%s", tt.service, tt.r.Method, tt.r.URL, diff)
		}
	}
}

func TestParameters(t *testing.T) {
	for _, tt := range []struct {
		call Call
		want string
	}{
		{Call{Protocol: JSON, Body: map[string]any{"DomainId": "d", "Deep": []any{map[string]any{"Name": "x", "Password": "hunter2"}}, "SecretString": "s"}},
			`{"deep":[{"name":"x","password":"HIDDEN_DUE_TO_SECURITY_REASONS"}],"domainId":"d","secretString":"HIDDEN_DUE_TO_SECURITY_REASONS"}`},
		{Call{Protocol: Query, Form: map[string][]string{"Action": {"X"}, "Version": {"1"}, "RoleName": {"r"}, "X-Amz-Signature": {"s"}, "Empty": nil, "Tags.member.1.Key": {"k"}}},
			`{"roleName":"r","tags":[{"member.1.Key":"k"}]}`},
		{Call{Protocol: Query, Form: map[string][]string{"A": {"1"}, "A.1": {"2"}}}, `{"a":[{"1":"2"}]}`},
		{Call{Protocol: Query, Form: map[string][]string{"Action": {"X"}}}, `null`},
		{Call{Protocol: JSON}, `null`},
		{Call{Protocol: S3, Bucket: "b", Key: "k"}, `{"Host":"","bucketName":"b","key":"k"}`},
	} {
		got, err := json.Marshal(tt.call.Parameters())
		if err != nil || string(got) != tt.want {
			t.Errorf("%s, want %s (%v)", got, tt.want, err)
		}
	}
}

// TestErrorShapes parses each protocol's errors as a client would.
func TestErrorShapes(t *testing.T) {
	const code, message, id = "Some<Code>", `a "quoted" & <odd> text`, "id-1"
	e := &Error{Status: 418, Code: code, Message: message}
	for _, p := range []Protocol{Query, EC2, S3, JSON, RESTJSON, CBOR} {
		w := httptest.NewRecorder()
		RespondError(w, request("POST", "/", ""), &Call{Service: "sts", Protocol: p, Type: "application/x-amz-json-1.0"}, e, id)
		if w.Code != 418 || w.Header().Get("X-Amzn-Requestid") != id {
			t.Errorf("%s: %d %v", p, w.Code, w.Header())
		}
		var gotCode, gotMessage string
		switch p {
		case Query:
			var v struct {
				Error struct{ Type, Code, Message string }
			}
			if err := xml.Unmarshal(w.Body.Bytes(), &v); err != nil {
				t.Error(err)
			}
			gotCode, gotMessage = v.Error.Code, v.Error.Message
		case EC2:
			var v struct {
				Errors struct {
					Error struct{ Code, Message string }
				}
			}
			if err := xml.Unmarshal(w.Body.Bytes(), &v); err != nil {
				t.Error(err)
			}
			gotCode, gotMessage = v.Errors.Error.Code, v.Errors.Error.Message
		case S3:
			var v struct{ Code, Message string }
			if err := xml.Unmarshal(w.Body.Bytes(), &v); err != nil {
				t.Error(err)
			}
			gotCode, gotMessage = v.Code, v.Message
		case JSON, RESTJSON:
			var v map[string]string
			if err := json.Unmarshal(w.Body.Bytes(), &v); err != nil {
				t.Error(err)
			}
			gotCode, gotMessage = v["__type"], v["message"]
			if w.Header().Get("X-Amzn-Errortype") != code {
				t.Errorf("%s: no X-Amzn-ErrorType", p)
			}
		case CBOR:
			if s := w.Body.String(); s[0] != 0xa2 || !strings.Contains(s, code) || !strings.Contains(s, message) {
				t.Errorf("%s: %q", p, s)
			}
			continue
		}
		if gotCode != code || gotMessage != message {
			t.Errorf("%s: %q %q", p, gotCode, gotMessage)
		}
	}
	w := httptest.NewRecorder()
	RespondError(w, request("HEAD", "/b/k", ""), &Call{Service: "s3", Protocol: S3}, e, id)
	if w.Body.Len() != 0 {
		t.Errorf("an answer to HEAD has a body: %s", w.Body)
	}
}

func TestEveryRefusalHasAnAnswer(t *testing.T) {
	codes := []sigv4.Code{sigv4.MissingAuthenticationToken, sigv4.IncompleteSignature, sigv4.InvalidClientTokenId, sigv4.ExpiredToken,
		sigv4.SignatureDoesNotMatch, sigv4.RequestTimeTooSkewed, sigv4.RequestExpired, sigv4.PayloadMismatch}
	for _, p := range []Protocol{Query, EC2, S3, JSON, RESTJSON, CBOR} {
		for _, code := range codes {
			if e := Unauthenticated(p, &sigv4.Error{Code: code, Message: "m"}); e.Status < 400 || e.Status > 403 || e.Code == "" || e.Message == "" {
				t.Errorf("%s %s: %+v", p, code, e)
			}
		}
		for _, e := range []*Error{Throttled(p), Failed(p, 500), Failed(p, 503), Denied(p, "m")} {
			if e.Status < 400 || e.Code == "" || e.Message == "" || e.TrailCode(p) == "" {
				t.Errorf("%s: %+v", p, e)
			}
		}
	}
}

func FuzzParse(f *testing.F) {
	f.Add("s3", "GET", "/b/k?x=1", "b.s3.us-east-1.amazonaws.com", "", "", "")
	f.Add("sts", "POST", "/", "sts.amazonaws.com", "application/x-www-form-urlencoded", "", "Action=AssumeRole&Tags.member.1.Key=a")
	f.Add("sagemaker", "POST", "/", "", "application/x-amz-json-1.1", "SageMaker.X", `{"A":[{"B":null}]}`)
	f.Add("lambda", "GET", "/-/", "", "", "", "")
	f.Fuzz(func(t *testing.T, service, method, path, host, contentType, target, body string) {
		r := request("GET", "/", "")
		r.Method, r.URL.Path, r.Host = method, path, host
		r.Header.Set("Content-Type", contentType)
		if target != "" {
			r.Header.Set("X-Amz-Target", target)
		}
		c, err := Parse(r, []byte(body), service)
		if c == nil || err == nil && !operationName(c.Operation) {
			t.Fatalf("call %+v, error %v", c, err)
		}
		if _, err := json.Marshal(c.Parameters()); err != nil {
			t.Errorf("parameters: %v", err)
		}
		if err != nil {
			RespondError(httptest.NewRecorder(), r, c, err, "id")
		}
	})
}
