package fakeaws

import (
	"crypto/tls"
	"fmt"
	"net/url"
	"strconv"
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

// getRole is iam:GetRole.
func (x *exchange) getRole() (answer, *wire.Error) {
	name := x.call.Form.Get("RoleName")
	if name == "" {
		return answer{}, &wire.Error{Status: 400, Code: "ValidationError", Message: "1 validation error detected: Value null at 'roleName' failed to satisfy constraint: Member must not be null"}
	}
	role := x.directory.Role(name)
	arn := x.scope.Role("/", name)
	if role != nil {
		arn = role.ARN
	}
	if failure := x.authorize(x.call.Action, arn, nil); failure != nil {
		return answer{}, failure
	}
	if role == nil {
		return answer{}, &wire.Error{Status: 404, Code: "NoSuchEntity", Trail: "NoSuchEntityException", Message: "The role with name " + name + " cannot be found."}
	}
	var tags strings.Builder
	for _, k := range tagNames(role.Tags) {
		tags.WriteString("<member><Key>" + wire.Escape(k) + "</Key><Value>" + wire.Escape(role.Tags[k]) + "</Value></member>")
	}
	if tags.Len() > 0 {
		tags.WriteString("</Tags>")
	}
	return x.query("<Role><Path>" + wire.Escape(role.Source.Path) + "</Path><RoleName>" + wire.Escape(role.Name) +
		"</RoleName><RoleId>" + role.ID + "</RoleId><Arn>" + wire.Escape(role.ARN) + "</Arn><CreateDate>" + cloudtrail.Time(role.Created) +
		"</CreateDate><AssumeRolePolicyDocument>" + encodePolicy(x.directory.TrustText(role)) +
		"</AssumeRolePolicyDocument><MaxSessionDuration>" + strconv.Itoa(role.Source.MaxSessionSeconds) + "</MaxSessionDuration>" +
		strings.Replace(tags.String(), "<member>", "<Tags><member>", 1) + "<RoleLastUsed/></Role>"), nil
}

// encodePolicy is RFC 3986 percent encoding, as IAM uses for documents.
func encodePolicy(text []byte) string {
	return strings.ReplaceAll(url.QueryEscape(string(text)), "+", "%20")
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
