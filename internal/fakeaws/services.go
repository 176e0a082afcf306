package fakeaws

import (
	"crypto/tls"
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/s3files"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// generic authorises a call that the account does not implement and answers it
// with as little as its protocol allows.
func (x *exchange) generic(arn string) (answer, *wire.Error) {
	if failure := x.authorize(x.call.Action, arn, nil); failure != nil {
		return answer{}, failure
	}
	switch x.call.Protocol {
	case wire.Query:
		return x.query(""), nil
	case wire.EC2:
		return answer{contentType: "text/xml;charset=UTF-8", body: fmt.Appendf(nil,
			"<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<%[1]sResponse xmlns=\"%[2]s\">\n    <requestId>%[3]s</requestId>\n</%[1]sResponse>",
			x.call.Operation, wire.Namespace("ec2"), x.id)}, nil
	case wire.CBOR:
		return answer{contentType: "application/cbor", body: []byte{0xa0}}, nil // an empty map
	}
	result := map[string]any{}
	switch {
	case x.call.Service == "athena" && x.call.Operation == "StartQueryExecution":
		result["QueryExecutionId"] = newUUID()
	case x.call.Service == "sagemaker" && strings.HasPrefix(x.call.Operation, "Create") && arn != "*":
		result[strings.TrimPrefix(x.call.Operation, "Create")+"Arn"] = arn
	}
	done := x.json(result)
	if len(result) > 0 && !x.call.ReadOnly() {
		done.elements = wire.Elements(result)
	}
	return done, nil
}

// s3 answers a call to S3 from the scenario's files.
func (x *exchange) s3() (answer, *wire.Error) {
	c := x.call
	if failure := x.authorize(c.Action, x.scope.Of(c), nil); failure != nil {
		return answer{}, failure
	}
	store := s3files.Store{Buckets: x.current().Buckets, Region: x.Region(), Created: x.created}
	found, failure := store.Serve(c, x.http, x.scope.Region)
	done := answer{status: found.Status, contentType: found.ContentType, body: found.Body, header: found.Header}
	if c.Key != "" {
		done.resources = append(done.resources, cloudtrail.Resource{Type: "AWS::S3::Object", ARN: x.scope.Bucket(c.Bucket, c.Key)})
	}
	if c.Bucket != "" {
		done.resources = append(done.resources, cloudtrail.Resource{AccountID: x.scope.Account, Type: "AWS::S3::Bucket", ARN: x.scope.Bucket(c.Bucket, "")})
	}
	return done, failure
}

// s3Details are the additional data of an S3 record.
func (x *exchange) s3Details(sent int) any {
	method := "AuthHeader"
	if x.http.Header.Get("Authorization") == "" {
		method = "QueryString"
	}
	details := map[string]any{
		"SignatureVersion": "SigV4", "AuthenticationMethod": method, "x-amz-id-2": x.id,
		"bytesTransferredIn": max(x.http.ContentLength, 0), "bytesTransferredOut": sent,
	}
	if t := x.http.TLS; t != nil {
		details["CipherSuite"] = tls.CipherSuiteName(t.CipherSuite)
	}
	return details
}
