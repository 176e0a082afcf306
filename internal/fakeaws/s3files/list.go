package s3files

import (
	"encoding/base64"
	"encoding/xml"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/cloudtrail"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// maxKeys is how much one page of a listing holds, whatever was asked for.
const maxKeys = 1000

type s3Object struct {
	Key          string
	LastModified string
	ETag         string
	Size         int64
	StorageClass string
}

type commonPrefix struct{ Prefix string }

// listing is a page, with the members of both versions.
type listing struct {
	XMLName               xml.Name `xml:"ListBucketResult"`
	NS                    string   `xml:"xmlns,attr"`
	Name, Prefix          string
	Delimiter             string `xml:",omitempty"`
	KeyCount, MaxKeys     int
	StartAfter            string `xml:",omitempty"`
	ContinuationToken     string `xml:",omitempty"`
	NextContinuationToken string `xml:",omitempty"`
	Marker                string `xml:",omitempty"`
	NextMarker            string `xml:",omitempty"`
	IsTruncated           bool
	Contents              []s3Object
	CommonPrefixes        []commonPrefix
}

// listObjects lists a bucket's files: ListObjectsV2 if the query says list-type=2,
// otherwise the first version.
func listObjects(b scenario.Bucket, q url.Values) (Answer, *wire.Error) {
	page := listing{
		NS: s3Namespace, Name: b.Name, Prefix: q.Get("prefix"), Delimiter: q.Get("delimiter"), MaxKeys: maxKeys,
		StartAfter: q.Get("start-after"), ContinuationToken: q.Get("continuation-token"),
	}
	if s := q.Get("max-keys"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return Answer{}, invalidArgument("Provided max-keys not an integer or within integer range")
		}
		page.MaxKeys = min(n, maxKeys)
	}
	after, second := page.StartAfter, q.Get("list-type") == "2"
	if !second {
		page.Marker = q.Get("marker")
		after, page.StartAfter, page.ContinuationToken = page.Marker, "", ""
	}
	if page.ContinuationToken != "" {
		from, ok := readToken(b.Name, page.ContinuationToken)
		if !ok {
			return Answer{}, invalidArgument("The continuation token provided is incorrect")
		}
		after = max(after, from)
	}
	objects, err := objectsOf(b)
	if err != nil {
		return Answer{}, wire.Failed(wire.S3, 500)
	}
	last := page.fill(objects, after)
	page.KeyCount = len(page.Contents) + len(page.CommonPrefixes)
	switch {
	case page.IsTruncated && second:
		page.NextContinuationToken = token(b.Name, last)
	case page.IsTruncated && page.Delimiter != "":
		page.NextMarker = last
	}
	return document(page), nil
}

// fill takes what comes behind a key until the page is full, and returns the last key
// or common prefix on it.
func (p *listing) fill(objects []s3Object, after string) (last string) {
	for _, o := range objects {
		rest, found := strings.CutPrefix(o.Key, p.Prefix)
		if !found || o.Key <= after {
			continue
		}
		name, isPrefix := o.Key, false
		if at := strings.Index(rest, p.Delimiter); p.Delimiter != "" && at >= 0 {
			name, isPrefix = o.Key[:len(p.Prefix)+at+len(p.Delimiter)], true
		}
		// A common prefix that was listed stands for all keys that begin with it.
		if isPrefix && (name == last || name == after) {
			continue
		}
		if len(p.Contents)+len(p.CommonPrefixes) == p.MaxKeys {
			p.IsTruncated = p.MaxKeys > 0
			return last
		}
		last = name
		if isPrefix {
			p.CommonPrefixes = append(p.CommonPrefixes, commonPrefix{name})
		} else {
			p.Contents = append(p.Contents, o)
		}
	}
	return last
}

// objectsOf lists the files of a bucket's directory in the order of the bytes of their
// keys.
func objectsOf(b scenario.Bucket) (objects []s3Object, err error) {
	if b.Directory == "" {
		return nil, nil
	}
	err = fs.WalkDir(os.DirFS(b.Directory), ".", func(name string, e fs.DirEntry, err error) error {
		if err != nil || !e.Type().IsRegular() {
			return err
		}
		info, err := e.Info()
		if err != nil {
			return err
		}
		objects = append(objects, s3Object{name, cloudtrail.Time(info.ModTime()), entityTag(info), info.Size(), "STANDARD"})
		return nil
	})
	slices.SortFunc(objects, func(a, b s3Object) int { return strings.Compare(a.Key, b.Key) })
	return objects, err
}

// token says where a listing goes on. It belongs to one bucket.
func token(bucket, after string) string {
	return base64.URLEncoding.EncodeToString([]byte(bucket + "/" + after))
}

func readToken(bucket, s string) (after string, ok bool) {
	text, err := base64.URLEncoding.DecodeString(s)
	if err != nil {
		return "", false
	}
	return strings.CutPrefix(string(text), bucket+"/")
}

func invalidArgument(message string) *wire.Error {
	return &wire.Error{Status: 400, Code: "InvalidArgument", Message: message}
}
