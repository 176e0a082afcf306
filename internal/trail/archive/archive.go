// Package archive finds CloudTrail's records where AWS keeps them: the files of a
// trail in S3, and CloudTrail's own event history of 90 days.
//
// It guarantees: nothing is written, in AWS or here; objects are read as they stream,
// and go on where they broke off; folders and days that hold no record that could
// matter are not even listed; the event history is asked no more than twice a second
// in each region, which is AWS's limit, and a refusal for haste is waited out.
//
// It relies on documented behaviour: the layout of the keys
// (AWSLogs/[organization/]account/CloudTrail/region/yyyy/mm/dd/), whose date is that
// of the delivery; listings in the order of the keys' bytes; LookupEvents giving the
// newest event first, management events of one region only.
package archive

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/smithy-go"

	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

// margin is how much longer than was asked for is searched, on both sides: a name may
// be known by the AssumeRole that began a session, which lives 12 hours at most, and
// by those before it in a chain, an hour each; and records come late.
const margin = 24 * time.Hour

// Archive reads with the credentials of its configuration.
type Archive struct {
	aws aws.Config
	now func() time.Time
}

// New returns an archive. cfg is that of the caller, as config.LoadDefaultConfig
// makes it.
func New(cfg aws.Config) *Archive { return &Archive{aws: cfg, now: time.Now} }

// Find returns the inputs of a place. Listing is done when it returns; the event
// history is asked while its inputs are read.
func (a *Archive) Find(ctx context.Context, p source.Place) ([]source.Input, source.Skipped, error) {
	if p.URL == "" {
		inputs, err := a.history(ctx, p)
		return inputs, source.Skipped{}, err
	}
	bucket, prefix, found := strings.Cut(strings.TrimPrefix(p.URL, "s3://"), "/")
	if !strings.HasPrefix(p.URL, "s3://") || bucket == "" {
		return nil, source.Skipped{}, fmt.Errorf("%.200q: expected s3://BUCKET/PREFIX, a file or a directory", p.URL)
	}
	if !found {
		prefix = ""
	}
	return a.objects(ctx, bucket, prefix, p)
}

// explain makes an error of the SDK one that a person can act upon: what was done, what
// AWS says, and what the caller needs.
func explain(doing string, err error, needs string) error {
	var api smithy.APIError
	switch {
	case errors.Is(err, context.Canceled):
		return fmt.Errorf("%s: %w", doing, err)
	case strings.Contains(err.Error(), "get identity: "): // the SDK has no type for it
		_, said, _ := strings.Cut(err.Error(), "get identity: ")
		return fmt.Errorf("%s: no AWS credentials: %s (AWS_PROFILE names a profile of ~/.aws/config; `aws sts get-caller-identity` tests it)", doing, strings.TrimPrefix(said, "get credentials: "))
	case !errors.As(err, &api):
		return fmt.Errorf("%s: %w", doing, err)
	}
	said := fmt.Sprintf("%s: %s: %s", doing, api.ErrorCode(), api.ErrorMessage())
	switch api.ErrorCode() {
	case "AccessDenied", "AccessDeniedException", "Forbidden":
		said += " (the caller needs " + needs + ")"
	case "ExpiredToken", "ExpiredTokenException", "InvalidAccessKeyId", "UnrecognizedClientException", "InvalidClientTokenId":
		said += " (sign in again: AWS does not know these credentials, or no longer)"
	}
	return errors.New(said)
}
