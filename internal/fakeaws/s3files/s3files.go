// Package s3files answers the S3 calls that clients make to look around:
// listings, and sizes and contents of files in directories that stand for
// buckets. Uploads succeed and are discarded; nothing is ever written.
//
// Listings are those of both versions of the API, in pages, in the order of the keys'
// bytes, with delimiters. A bucket that has a region refuses calls signed for another,
// and says which is right.
//
// It never serves a file outside a bucket's directory, symbolic links
// included. Entity tags are made of time and size, not of the content. Whether a call
// is allowed is the caller's business.
package s3files

import (
	"cmp"
	"crypto/rand"
	"encoding/xml"
	"fmt"
	"io/fs"
	"net/http"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// Store is an account's buckets.
type Store struct {
	Buckets []scenario.Bucket
	Region  string
	Created time.Time
}

// Answer is a successful answer.
type Answer struct {
	Status      int // 0 = 200
	ContentType string
	Body        []byte
	Header      map[string]string
}

// Serve answers the S3 call c, which r carried, signed for a region.
func (s Store) Serve(c *wire.Call, r *http.Request, region string) (Answer, *wire.Error) {
	if c.Bucket == "" {
		return s.listBuckets(), nil
	}
	i := slices.IndexFunc(s.Buckets, func(b scenario.Bucket) bool { return b.Name == c.Bucket })
	switch {
	case c.Operation == "CreateBucket":
		return Answer{ContentType: "application/xml", Header: map[string]string{"Location": "/" + c.Bucket}}, nil
	case i < 0:
		return Answer{}, &wire.Error{Status: 404, Code: "NoSuchBucket", Message: "The specified bucket does not exist"}
	}
	if b := s.Buckets[i]; b.Region != "" && b.Region != region {
		return Answer{Header: map[string]string{"X-Amz-Bucket-Region": b.Region}}, &wire.Error{
			Status: http.StatusMovedPermanently, Code: "PermanentRedirect",
			Message: "The bucket you are attempting to access must be addressed using the specified endpoint. Please send all future requests to this endpoint.",
		}
	}
	return s.bucket(s.Buckets[i], c, r)
}

func document(v any) Answer {
	body, err := xml.Marshal(v)
	if err != nil { // plain structs: cannot happen
		body = nil
	}
	return Answer{ContentType: "application/xml", Body: append([]byte(xml.Header), body...)}
}

const s3Namespace = "http://s3.amazonaws.com/doc/2006-03-01/"

type s3Bucket struct {
	Name         string
	CreationDate string
}

func (s Store) listBuckets() Answer {
	result := struct {
		XMLName xml.Name `xml:"ListAllMyBucketsResult"`
		NS      string   `xml:"xmlns,attr"`
		Owner   struct{ ID, DisplayName string }
		Buckets struct{ Bucket []s3Bucket }
	}{NS: s3Namespace}
	result.Owner.ID, result.Owner.DisplayName = strings.Repeat("0", 64), "owner"
	for _, b := range s.Buckets {
		result.Buckets.Bucket = append(result.Buckets.Bucket, s3Bucket{b.Name, cloudtrail.Time(s.Created)})
	}
	return document(result)
}

func (s Store) bucket(b scenario.Bucket, c *wire.Call, r *http.Request) (Answer, *wire.Error) {
	switch c.Operation {
	case "ListObjects":
		return listObjects(b, r.URL.Query())
	case "GetBucketLocation":
		return document(struct {
			XMLName xml.Name `xml:"LocationConstraint"`
			NS      string   `xml:"xmlns,attr"`
			Region  string   `xml:",chardata"`
		}{NS: s3Namespace, Region: strings.TrimPrefix(cmp.Or(b.Region, s.Region), "us-east-1")}), nil
	case "GetObject", "HeadObject":
		return object(b, c.Key, r.Header.Get("Range"), r.Header.Get("If-Match"))
	case "HeadBucket":
		return Answer{ContentType: "application/xml", Header: map[string]string{"X-Amz-Bucket-Region": cmp.Or(b.Region, s.Region)}}, nil
	case "PutObject", "UploadPart":
		return Answer{ContentType: "application/xml", Header: map[string]string{"Etag": emptyETag}}, nil
	case "DeleteObject", "DeleteBucket", "AbortMultipartUpload":
		return Answer{Status: http.StatusNoContent, ContentType: "application/xml"}, nil
	case "CreateMultipartUpload":
		return document(struct {
			XMLName               xml.Name `xml:"InitiateMultipartUploadResult"`
			NS                    string   `xml:"xmlns,attr"`
			Bucket, Key, UploadId string
		}{NS: s3Namespace, Bucket: b.Name, Key: c.Key, UploadId: rand.Text()}), nil
	case "CompleteMultipartUpload":
		return document(struct {
			XMLName           xml.Name `xml:"CompleteMultipartUploadResult"`
			NS                string   `xml:"xmlns,attr"`
			Bucket, Key, ETag string
		}{NS: s3Namespace, Bucket: b.Name, Key: c.Key, ETag: emptyETag}), nil
	}
	return document(struct {
		XMLName xml.Name `xml:"Result"`
		NS      string   `xml:"xmlns,attr"`
	}{NS: s3Namespace}), nil
}

// emptyETag is the entity tag of zero bytes.
const emptyETag = `"d41d8cd98f00b204e9800998ecf8427e"`

// object serves a file of the bucket's directory, never one outside it.
func object(b scenario.Bucket, key, wanted, tag string) (Answer, *wire.Error) {
	missing := &wire.Error{Status: 404, Code: "NoSuchKey", Message: "The specified key does not exist."}
	if b.Directory == "" {
		return Answer{}, missing
	}
	root, err := os.OpenRoot(b.Directory)
	if err != nil {
		return Answer{}, missing
	}
	defer func() { _ = root.Close() }() // only read from
	info, err := root.Stat(key)
	if err != nil || !info.Mode().IsRegular() {
		return Answer{}, missing
	}
	if tag != "" && tag != entityTag(info) {
		return Answer{}, &wire.Error{Status: http.StatusPreconditionFailed, Code: "PreconditionFailed", Message: "At least one of the pre-conditions you specified did not hold"}
	}
	body, err := root.ReadFile(key)
	if err != nil {
		return Answer{}, wire.Failed(wire.S3, 500)
	}
	done := Answer{ContentType: "binary/octet-stream", Body: body, Header: map[string]string{
		"Etag": entityTag(info), "Last-Modified": info.ModTime().UTC().Format(http.TimeFormat), "Accept-Ranges": "bytes",
	}}
	if wanted != "" {
		first, last, ok := byteRange(wanted, len(body))
		if !ok {
			return Answer{}, &wire.Error{Status: 416, Code: "InvalidRange", Message: "The requested range is not satisfiable"}
		}
		done.Status, done.Body = http.StatusPartialContent, body[first:last+1]
		done.Header["Content-Range"] = fmt.Sprintf("bytes %d-%d/%d", first, last, len(body))
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
