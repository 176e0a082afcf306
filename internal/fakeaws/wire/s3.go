package wire

import (
	"net"
	"net/http"
	"net/url"
	"strings"
)

// parseS3 tells the bucket, the key and the operation of an S3 request, in
// virtual-hosted style (bucket.s3.region.amazonaws.com, bucket.localhost) and
// in path style.
func (c *Call) parseS3(r *http.Request) *Error {
	host := r.Host
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	c.s3Host = host
	path := strings.TrimPrefix(r.URL.Path, "/")
	if bucket := hostBucket(host); bucket != "" {
		c.Bucket, c.Key = bucket, path
	} else {
		c.Bucket, c.Key, _ = strings.Cut(path, "/")
	}
	q := r.URL.Query()
	switch {
	case c.Bucket == "":
		c.operation(r.Method == http.MethodGet, "ListBuckets", "ListAllMyBuckets")
	case c.Key == "":
		c.bucketOperation(r.Method, q)
	default:
		c.objectOperation(r.Method, q)
	}
	if c.Operation == "" {
		return &Error{Status: 405, Code: "MethodNotAllowed", Message: "The specified method is not allowed against this resource."}
	}
	return nil
}

// hostBucket returns the bucket that a virtual-hosted name carries.
func hostBucket(host string) string {
	if b, ok := strings.CutSuffix(host, ".localhost"); ok {
		return b
	}
	for _, mark := range []string{".s3.", ".s3-", ".s3express-"} {
		if i := strings.LastIndex(host, mark); i > 0 && strings.Contains(host[i:], ".amazonaws.") {
			return host[:i]
		}
	}
	return ""
}

func (c *Call) operation(ok bool, name, action string) {
	if ok {
		c.Operation, c.Action = name, "s3:"+action
	}
}

// subresources of a bucket, read with GET: query key → operation, action.
var subresources = []struct{ key, operation, action string }{
	{"location", "GetBucketLocation", "GetBucketLocation"},
	{"versioning", "GetBucketVersioning", "GetBucketVersioning"},
	{"encryption", "GetBucketEncryption", "GetEncryptionConfiguration"},
	{"policy", "GetBucketPolicy", "GetBucketPolicy"},
	{"tagging", "GetBucketTagging", "GetBucketTagging"},
	{"acl", "GetBucketAcl", "GetBucketAcl"},
	{"uploads", "ListMultipartUploads", "ListBucketMultipartUploads"},
	{"versions", "ListObjectVersions", "ListBucketVersions"},
}

func (c *Call) bucketOperation(method string, q url.Values) {
	switch method {
	case http.MethodGet:
		for _, s := range subresources {
			if q.Has(s.key) {
				c.operation(true, s.operation, s.action)
				return
			}
		}
		c.operation(true, "ListObjects", "ListBucket") // both versions of the API
	case http.MethodHead:
		c.operation(true, "HeadBucket", "ListBucket")
	case http.MethodPut:
		c.operation(true, "CreateBucket", "CreateBucket")
	case http.MethodDelete:
		c.operation(true, "DeleteBucket", "DeleteBucket")
	case http.MethodPost:
		c.operation(q.Has("delete"), "DeleteObjects", "DeleteObject")
	}
}

func (c *Call) objectOperation(method string, q url.Values) {
	switch method {
	case http.MethodGet:
		c.operation(true, "GetObject", "GetObject")
	case http.MethodHead:
		c.operation(true, "HeadObject", "GetObject")
	case http.MethodPut:
		if q.Has("partNumber") {
			c.operation(true, "UploadPart", "PutObject")
			return
		}
		c.operation(true, "PutObject", "PutObject")
	case http.MethodDelete:
		if q.Has("uploadId") {
			c.operation(true, "AbortMultipartUpload", "AbortMultipartUpload")
			return
		}
		c.operation(true, "DeleteObject", "DeleteObject")
	case http.MethodPost:
		c.operation(q.Has("uploads"), "CreateMultipartUpload", "PutObject")
		c.operation(q.Has("uploadId"), "CompleteMultipartUpload", "PutObject")
	}
}
