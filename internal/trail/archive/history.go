package archive

import (
	"context"
	"errors"
	"io"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/ratelimit"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail"
	"github.com/aws/aws-sdk-go-v2/service/cloudtrail/types"

	"github.com/nbidentityd/nbidentityd/internal/trail/source"
)

const (
	// historyLength is how far LookupEvents looks back.
	historyLength = 90 * 24 * time.Hour

	// lookupInterval keeps the limit of two requests a second, per account and region.
	lookupInterval = time.Second / 2
)

// history returns the inputs of CloudTrail's event history: one for each region, and
// when it begins at a time, one more with the AssumeRole calls of the day before, which
// began the sessions that went on.
func (a *Archive) history(ctx context.Context, p source.Place) ([]source.Input, error) {
	regions := p.Regions
	if len(regions) == 0 {
		if a.aws.Region == "" {
			return nil, errors.New("--lookup: no region: give --region, or set AWS_REGION")
		}
		regions = []string{a.aws.Region}
	}
	oldest := a.now().Add(-historyLength)
	var inputs []source.Input
	for _, region := range regions {
		l := lookup{quota: new(pace), client: cloudtrail.NewFromConfig(a.aws, func(o *cloudtrail.Options) {
			o.Region = region
			o.Retryer = retry.NewStandard(func(o *retry.StandardOptions) {
				// Other callers of the account share the limit.
				o.MaxAttempts, o.RateLimiter = 30, ratelimit.None
				o.Backoff = retry.BackoffDelayerFunc(func(int, error) (time.Duration, error) { return rand.N(4 * lookupInterval), nil })
			})
		})}
		first, last := oldest, a.now()
		if !p.Until.IsZero() {
			last = p.Until
			l.in.EndTime = &last
		}
		if p.Since.After(oldest) {
			first = p.Since
			l.in.StartTime = &first
		}
		inputs = append(inputs, l.input(ctx, "the event history of "+region, first, last))
		if l.in.StartTime == nil {
			continue
		}
		l.in.StartTime, l.in.EndTime = aws.Time(first.Add(-margin)), &first
		l.in.LookupAttributes = []types.LookupAttribute{{AttributeKey: types.LookupAttributeKeyEventName, AttributeValue: aws.String("AssumeRole")}}
		inputs = append(inputs, l.input(ctx, "the AssumeRole calls before that in "+region, first, first))
	}
	return inputs, nil
}

// lookup is what one input asks for.
type lookup struct {
	client *cloudtrail.Client
	quota  *pace
	in     cloudtrail.LookupEventsInput
}

// input returns the records as an input. Nobody knows before how many there are: the
// seconds between first and last stand for the size, which tell as well how far it is.
func (l lookup) input(ctx context.Context, name string, first, last time.Time) source.Input {
	done := new(atomic.Int64)
	return source.Input{
		Name: name, Size: max(last.Unix()-first.Unix(), 0), Done: done.Load,
		Open: func() (io.ReadCloser, error) {
			return &events{lookup: l, ctx: ctx, more: true, reached: func(at time.Time) { done.Store(last.Unix() - at.Unix()) }}, nil
		},
	}
}

// events reads the records of a lookup, one a line.
type events struct {
	lookup
	ctx     context.Context
	text    []byte // of a page, as far as it is not read
	more    bool
	reached func(at time.Time)
}

func (e *events) Read(p []byte) (int, error) {
	for len(e.text) == 0 {
		if !e.more {
			return 0, io.EOF
		}
		if err := e.page(); err != nil {
			return 0, err
		}
	}
	n := copy(p, e.text)
	e.text = e.text[n:]
	return n, nil
}

func (e *events) page() error {
	if err := e.quota.wait(e.ctx); err != nil {
		return err
	}
	answer, err := e.client.LookupEvents(e.ctx, &e.in)
	if err != nil {
		return explain("looking up events", err, "cloudtrail:LookupEvents")
	}
	for _, event := range answer.Events {
		e.text = append(append(e.text, aws.ToString(event.CloudTrailEvent)...), '\n')
		e.reached(aws.ToTime(event.EventTime))
	}
	e.in.NextToken = answer.NextToken
	e.more = aws.ToString(answer.NextToken) != ""
	return nil
}

func (e *events) Close() error { return nil }

// pace spreads requests over time. Its methods may be called from several goroutines.
type pace struct {
	mu   sync.Mutex
	next time.Time // when the next request may be made
}

func (p *pace) wait(ctx context.Context) error {
	p.mu.Lock()
	now := time.Now()
	at := now
	if p.next.After(now) {
		at = p.next
	}
	p.next = at.Add(lookupInterval)
	p.mu.Unlock()
	select {
	case <-time.After(at.Sub(now)):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
