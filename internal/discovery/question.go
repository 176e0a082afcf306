package discovery

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const (
	// One call, the client's own retries included. In a VPC without a way to
	// AWS, nothing else would end it. A soft question delays the start, so it has
	// less time and few tries.
	callTimeout     = 30 * time.Second
	softCallTimeout = 5 * time.Second
	softTries       = 2

	// A cause that may pass: a random pause of up to backoffBase, doubled at
	// each failure up to backoffMax.
	backoffBase = time.Second
	backoffMax  = time.Minute

	// A cause that somebody has to remove: this, give or take a quarter.
	slowPause = time.Minute
)

// question is one Describe call.
type question struct {
	action   string // as IAM spells it
	resource string // ARN, for the policy that allows it
	region   string

	soft    bool          // we can do without an answer
	timeout time.Duration // of one call
}

func (d *discovery) question(operation, resource string) question {
	return question{
		action:   "sagemaker:" + operation,
		resource: resourceARN(d.nb, resource),
		region:   d.nb.Region,
		timeout:  callTimeout,
	}
}

// softly is q as a question that need not be answered.
func (q question) softly() question {
	q.soft, q.timeout = true, softCallTimeout
	return q
}

func resourceARN(nb identity.Notebook, resource string) string {
	return "arn:" + nb.Partition + ":sagemaker:" + nb.Region + ":" + nb.Account + ":" + resource
}

// ask calls until there is an answer or ctx ends. A soft question gives up after
// softTries calls, and at once when somebody would have to act.
func ask[T any](ctx context.Context, d *discovery, q question, call func(context.Context) (T, error)) (T, error) {
	var none T
	var last *awscause.Error
	for failures := 0; ; {
		answer, err := once(ctx, q.timeout, call)
		if err == nil {
			d.asked = true
			if last != nil && !q.soft {
				d.report(nil)
			}
			return answer, nil
		}
		if ctx.Err() != nil {
			return none, ended(ctx, q, last)
		}
		failures++
		last = q.call().Explain(err)
		pause := backoff(failures, last.Passing())
		if q.soft && (failures >= softTries || !last.Passing()) {
			return none, last
		}
		if !q.soft {
			d.report(last)
		}
		d.Log.Warn("question to aws failed, asking again",
			zap.String("action", q.action), zap.String("resource", q.resource), zap.String("code", last.Code()),
			zap.Error(last), zap.String("remedy", last.Remedy()), zap.Int("failures", failures), zap.Duration("pause", pause))
		if !sleep(ctx, pause) {
			return none, ended(ctx, q, last)
		}
	}
}

func once[T any](ctx context.Context, timeout time.Duration, call func(context.Context) (T, error)) (T, error) {
	ctx, cancel := context.WithTimeout(ctx, timeout)
	defer cancel()
	return call(ctx)
}

func ended(ctx context.Context, q question, last *awscause.Error) error {
	if last == nil {
		return fmt.Errorf("asking %s about %s: %w", q.action, q.resource, ctx.Err())
	}
	return fmt.Errorf("%w (no more time: %w)", last, ctx.Err())
}

func (d *discovery) report(problem *awscause.Error) {
	switch {
	case d.OnProblem == nil:
	case problem == nil:
		d.OnProblem(nil)
	default:
		d.OnProblem(problem)
	}
}

// backoff is how long to wait after the given number of failures.
func backoff(failures int, passing bool) time.Duration {
	if !passing {
		return slowPause*3/4 + rand.N(slowPause/2)
	}
	ceiling := backoffMax
	if shift := failures - 1; shift < 6 {
		ceiling = min(backoffMax, backoffBase<<shift)
	}
	return rand.N(ceiling)
}

// sleep reports whether the whole pause passed before ctx ended.
func sleep(ctx context.Context, pause time.Duration) bool {
	timer := time.NewTimer(pause)
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
