package fakeaws

import (
	"crypto/tls"
	"encoding/xml"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
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
	result := object{}
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

// s3 answers the calls that clients make to look around: listings, sizes and
// contents of the scenario's files. Uploads succeed and are discarded.
func (x *exchange) s3() (answer, *wire.Error) {
	c := x.call
	arn := x.scope.Of(c)
	if failure := x.authorize(c.Action, arn, nil); failure != nil {
		return answer{}, failure
	}
	s := x.current()
	var done answer
	var failure *wire.Error
	if c.Bucket == "" {
		done = x.xmlAnswer(listBuckets(s, x))
	} else {
		i := slices.IndexFunc(s.Buckets, func(b scenario.Bucket) bool { return b.Name == c.Bucket })
		if i < 0 && c.Operation != "CreateBucket" {
			return answer{}, &wire.Error{Status: 404, Code: "NoSuchBucket", Message: "The specified bucket does not exist"}
		}
		if i < 0 {
			return answer{contentType: "application/xml", header: map[string]string{"Location": "/" + c.Bucket}}, nil
		}
		done, failure = x.bucket(s.Buckets[i])
		done.resources = []cloudtrail.Resource{{AccountID: x.scope.Account, Type: "AWS::S3::Bucket", ARN: x.scope.Bucket(c.Bucket, "")}}
		if c.Key != "" {
			done.resources = slices.Insert(done.resources, 0, cloudtrail.Resource{Type: "AWS::S3::Object", ARN: x.scope.Bucket(c.Bucket, c.Key)})
		}
	}
	return done, failure
}

func (x *exchange) xmlAnswer(v any) answer {
	body, err := xml.Marshal(v)
	if err != nil { // plain structs: cannot happen
		x.log.Error("rendering an answer failed")
	}
	return answer{contentType: "application/xml", body: append([]byte(xml.Header), body...)}
}

const s3Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

type s3Bucket struct {
	Name         string
	CreationDate string
}

func listBuckets(s Scenario, x *exchange) any {
	result := struct {
		XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		NS      string   `xml:"xmlns,attr"`
		Owner   struct{ ID, DisplayName string }
		Buckets struct{ Bucket []s3Bucket }
	}{NS: s3Namespace}
	result.Owner.ID, result.Owner.DisplayName = strings.Repeat("0", 64), "owner"
	for _, b := range s.Buckets {
		result.Buckets.Bucket = append(result.Buckets.Bucket, s3Bucket{b.Name, cloudtrail.Time(x.created)})
	}
	return result
}

func (x *exchange) bucket(b scenario.Bucket) (answer, *wire.Error) {
	switch x.call.Operation {
	case "ListObjects":
		return x.listObjects(b)
	case "GetBucketLocation":
		return x.xmlAnswer(struct {
			XMLName xml.Name `xml:"LocationConstraint"`
			NS      string   `xml:"xmlns,attr"`
			Region  string   `xml:",chardata"`
		}{NS: s3Namespace, Region: strings.TrimPrefix(x.Account.scope.Region, "us-east-1")}), nil
	case "GetObject", "HeadObject":
		return x.object(b)
	case "HeadBucket":
		return answer{contentType: "application/xml", header: map[string]string{"X-Amz-Bucket-Region": x.Account.scope.Region}}, nil
	case "PutObject", "UploadPart":
		return answer{contentType: "application/xml", header: map[string]string{"Etag": emptyETag}}, nil
	case "DeleteObject", "DeleteBucket", "AbortMultipartUpload":
		return answer{status: http.StatusNoContent, contentType: "application/xml"}, nil
	case "CreateMultipartUpload":
		return x.xmlAnswer(struct {
			XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
			NS                    string   `xml:"xmlns,attr"`
			Bucket, Key, UploadId string
		}{NS: s3Namespace, Bucket: b.Name, Key: x.call.Key, UploadId: newUUID()}), nil
	case "CompleteMultipartUpload":
		return x.xmlAnswer(struct {
			XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
			NS                string   `xml:"xmlns,attr"`
			Bucket, Key, ETag string
		}{NS: s3Namespace, Bucket: b.Name, Key: x.call.Key, ETag: emptyETag}), nil
	}
	return x.xmlAnswer(struct {
		XMLName xml.Name `xml:"Result"`
		NS      string   `xml:"xmlns,attr"`
	}{NS: s3Namespace}), nil
}

// s3Details are the additional data of an S3 record.
func (x *exchange) s3Details(sent int) any {
	method := "AuthHeader"
	if x.http.Header.Get("Authorization") == "" {
		method = "QueryString"
	}
	details := object{
		"SignatureVersion": "SigV4", "AuthenticationMethod": method, "x-amz-id-2": x.id,
		"bytesTransferredIn": max(x.http.ContentLength, 0), "bytesTransferredOut": sent,
	}
	if t := x.http.TLS; t != nil {
		details["CipherSuite"] = tls.CipherSuiteName(t.CipherSuite)
	}
	return details
}

// emptyETag is the entity tag of zero bytes.
const emptyETag = `"d41d8cd98f00b204e9800998ecf8427e"`

type s3Object struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
}

// listObjects lists a bucket's files in the form of ListObjectsV2, whose
// members include those of the first version. It does not page.
func (x *exchange) listObjects(b scenario.Bucket) (answer, *wire.Error) {
	prefix := x.http.URL.Query().Get("prefix")
	result := struct {
		XMLName           xml.Name `xml:"ListBucketResult"`
		NS                string   `xml:"xmlns,attr"`
		Name, Prefix      string
		KeyCount, MaxKeys int
		IsTruncated       bool
		Contents          []s3Object
	}{NS: s3Namespace, Name: b.Name, Prefix: prefix, MaxKeys: 1000}
	if b.Directory != "" {
		err := fs.WalkDir(os.DirFS(b.Directory), ".", func(name string, e fs.DirEntry, err error) error {
			if err != nil || !e.Type().IsRegular() || !strings.HasPrefix(name, prefix) {
				return err
			}
			info, err := e.Info()
			if err != nil {
				return err
			}
			result.Contents = append(result.Contents, s3Object{name, cloudtrail.Time(info.ModTime()), entityTag(info), info.Size(), "STANDARD"})
			return nil
		})
		if err != nil {
			return answer{}, wire.Failed(wire.S3, 500)
		}
	}
	result.KeyCount = len(result.Contents)
	return x.xmlAnswer(result), nil
}

// object serves a file of the bucket's directory, never one outside it.
func (x *exchange) object(b scenario.Bucket) (answer, *wire.Error) {
	missing := &wire.Error{Status: 404, Code: "NoSuchKey", Message: "The specified key does not exist."}
	if b.Directory == "" {
		return answer{}, missing
	}
	root, err := os.OpenRoot(b.Directory)
	if err != nil {
		return answer{}, missing
	}
	defer func() { _ = root.Close() }() // only read from
	info, err := root.Stat(x.call.Key)
	if err != nil || !info.Mode().IsRegular() {
		return answer{}, missing
	}
	body, err := root.ReadFile(x.call.Key)
	if err != nil {
		return answer{}, wire.Failed(wire.S3, 500)
	}
	done := answer{contentType: "binary/octet-stream", body: body, header: map[string]string{
		"Etag": entityTag(info), "Last-Modified": info.ModTime().UTC().Format(http.TimeFormat), "Accept-Ranges": "bytes",
	}}
	if wanted := x.http.Header.Get("Range"); wanted != "" {
		first, last, ok := byteRange(wanted, len(body))
		if !ok {
			return answer{}, &wire.Error{Status: 416, Code: "InvalidRange", Message: "The requested range is not satisfiable"}
		}
		done.status, done.body = http.StatusPartialContent, body[first:last+1]
		done.header["Content-Range"] = fmt.Sprintf("bytes %d-%d/%d", first, last, len(body))
	}
	return done, nil
}

func entityTag(info fs.FileInfo) string {
	return fmt.Sprintf(`"%016x%016x"`, info.ModTime().UnixNano(), info.Size())
}

// byteRange reads "bytes=first-last", "bytes=first-" or "bytes=-length" for an
// object of size bytes.
func byteRange(s string, size int) (first, last int, ok bool) {
	from, to, found := strings.Cut(strings.TrimPrefix(s, "bytes="), "-")
	first, err1 := strconv.Atoi(from)
	last, err2 := strconv.Atoi(to)
	switch {
	case !found || !strings.HasPrefix(s, "bytes="):
		return 0, 0, false
	case from == "" && err2 == nil: // the last bytes
		first, last = max(0, size-last), size-1
	case err1 != nil || err2 != nil && to != "":
		return 0, 0, false
	case to == "":
		last = size - 1
	}
	last = min(last, size-1)
	return first, last, first <= last && first >= 0
}
