package archive

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/service/s3"
	"github.com/aws/aws-sdk-go-v2/service/s3/types"
	smithyhttp "github.com/aws/smithy-go/transport/http"
	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

// listers is how many listings are made at a time: an organization has a folder for
// each account and region.
const listers = 16

const (
	needsList = "s3:ListBucket on the bucket"
	needsGet  = "s3:GetObject on the bucket's objects, and kms:Decrypt on the key if the trail is encrypted with one"
)

// search looks for the objects of a trail in a bucket.
type search struct {
	client   *s3.Client
	bucket   string
	from, to string // first and last day that matter, as 2026/07/01; "" is open
	turn     chan struct{}
	group    *errgroup.Group

	mu      sync.Mutex // guards the fields below
	inputs  []source.Input
	skipped source.Skipped
}

func (a *Archive) objects(ctx context.Context, bucket, prefix string, p source.Place) ([]source.Input, source.Skipped, error) {
	client, err := a.clientOf(ctx, bucket)
	if err != nil {
		return nil, source.Skipped{}, err
	}
	s := &search{client: client, bucket: bucket, turn: make(chan struct{}, listers)}
	const layout = "2006/01/02"
	if !p.Since.IsZero() {
		s.from = p.Since.Add(-margin).UTC().Format(layout)
	}
	if !p.Until.IsZero() {
		s.to = p.Until.Add(margin).UTC().Format(layout)
	}
	group, listing := errgroup.WithContext(ctx)
	s.group = group
	s.group.Go(func() error { return s.folder(ctx, listing, prefix) })
	if err := s.group.Wait(); err != nil {
		return nil, source.Skipped{}, err
	}
	slices.SortFunc(s.inputs, func(a, b source.Input) int { return strings.Compare(a.Name, b.Name) })
	return s.inputs, s.skipped, nil
}

// clientOf returns a client for the region in which a bucket is. S3 tells it whoever
// asks, even those who may do nothing else.
func (a *Archive) clientOf(ctx context.Context, bucket string) (*s3.Client, error) {
	in := func(region string) *s3.Client {
		return s3.NewFromConfig(a.aws, func(o *s3.Options) {
			o.Region = region
			o.DisableLogOutputChecksumValidationSkipped = true // CloudTrail's files have none; gzip's is checked
		})
	}
	client := in(cmp.Or(a.aws.Region, "us-east-1"))
	_, err := client.HeadBucket(ctx, &s3.HeadBucketInput{Bucket: &bucket})
	var answer *smithyhttp.ResponseError
	if !errors.As(err, &answer) || answer.Response == nil {
		if err != nil {
			err = explain("looking for the bucket "+bucket, err, needsList)
		}
		return client, err
	}
	if region := answer.Response.Header.Get("X-Amz-Bucket-Region"); region != "" && region != client.Options().Region {
		return in(region), nil
	}
	return client, nil // listing says what is wrong, in more words than a HEAD can
}

// regionFolder matches a key up to and with the folder of a region. Below it are years,
// months and days.
var regionFolder = lazyregexp.New(`(?:^|/)[0-9]{12}/CloudTrail[A-Za-z-]*/[a-z0-9-]+/`)

// accountFolder matches a prefix that ends with the folder of an account, in which
// other services keep their logs too.
var accountFolder = lazyregexp.New(`(?:^|/)AWSLogs/(?:o-[a-z0-9]+/)?[0-9]{12}/$`)

// folder lists what is below a prefix: folder by folder down to that of a region, which
// is listed in one go from the first day to the last.
func (s *search) folder(ctx, listing context.Context, prefix string) error {
	in := &s3.ListObjectsV2Input{Bucket: &s.bucket, Prefix: &prefix}
	end := ""
	if at := regionFolder.FindAllStringIndex(prefix, 1); at != nil {
		root := prefix[:at[0][1]]
		if s.from != "" {
			in.StartAfter = aws.String(root + s.from + "/")
		}
		if s.to != "" {
			end = root + s.to + "0" // the character behind /
		}
	} else {
		in.Delimiter = aws.String("/")
	}
	for pages := s3.NewListObjectsV2Paginator(s.client, in); pages.HasMorePages(); {
		page, err := s.page(listing, pages)
		if err != nil {
			return explain("listing s3://"+s.bucket+"/"+prefix, err, needsList)
		}
		for _, o := range page.Contents {
			if end != "" && aws.ToString(o.Key) >= end {
				return nil
			}
			s.add(ctx, prefix, o)
		}
		for _, below := range page.CommonPrefixes {
			next := aws.ToString(below.Prefix)
			if s.skips(prefix, next) {
				continue
			}
			s.group.Go(func() error { return s.folder(ctx, listing, next) })
		}
	}
	return nil
}

func (s *search) page(ctx context.Context, pages *s3.ListObjectsV2Paginator) (*s3.ListObjectsV2Output, error) {
	select {
	case s.turn <- struct{}{}:
	case <-ctx.Done():
		return nil, ctx.Err()
	}
	defer func() { <-s.turn }()
	return pages.NextPage(ctx)
}

// skips reports whether a folder is none of a trail's, and counts it.
func (s *search) skips(parent, folder string) bool {
	name := path.Base(folder)
	if !source.NoCalls(name) && (strings.HasPrefix(name, "CloudTrail") || !accountFolder.MatchString(parent)) {
		return false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.skipped.Folders++
	return true
}

func (s *search) add(ctx context.Context, prefix string, o types.Object) {
	key, size := aws.ToString(o.Key), aws.ToInt64(o.Size)
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.skipped.Skips(strings.TrimPrefix(key, prefix)) {
		return
	}
	s.inputs = append(s.inputs, source.Input{
		Name: "s3://" + s.bucket + "/" + key, Size: size,
		Open: func() (io.ReadCloser, error) {
			r := &object{ctx: ctx, client: s.client, size: size, in: s3.GetObjectInput{Bucket: &s.bucket, Key: &key}}
			return r, r.open()
		},
	})
}

// object reads an object, and asks again for what is left of it when a connection
// breaks.
type object struct {
	ctx    context.Context
	client *s3.Client
	in     s3.GetObjectInput
	size   int64
	at     int64
	body   io.ReadCloser
	fails  int // since the last byte
}

// maxFails is how often an object is asked for without getting a byte of it.
const maxFails = 3

func (o *object) open() error {
	in := o.in
	if o.at > 0 {
		in.Range = aws.String(fmt.Sprintf("bytes=%d-", o.at))
	}
	answer, err := o.client.GetObject(o.ctx, &in)
	if err != nil {
		return explain("reading the object", err, needsGet)
	}
	o.in.IfMatch = answer.ETag // what is read later belongs to what was read
	o.body = answer.Body
	return nil
}

func (o *object) Read(p []byte) (int, error) {
	for {
		n, err := o.body.Read(p)
		o.at += int64(n)
		if err == nil || errors.Is(err, io.EOF) && o.at >= o.size || o.ctx.Err() != nil {
			return n, err
		}
		if n > 0 {
			o.fails = 0
			return n, nil // the next call meets the same error, without a byte
		}
		if o.fails++; o.fails > maxFails {
			return 0, explain("reading the object", err, needsGet)
		}
		select {
		case <-time.After(time.Duration(o.fails) * time.Second / 4):
		case <-o.ctx.Done():
			return 0, o.ctx.Err()
		}
		_ = o.body.Close() // broken already
		if err := o.open(); err != nil {
			return 0, err
		}
	}
}

func (o *object) Close() error { return o.body.Close() }
