package rolecreds

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/credentials/stscreds"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"github.com/aws/aws-sdk-go-v2/service/sts/types"
	"github.com/aws/smithy-go"
)

// probeLife is the shortest session that AWS grants, in seconds.
const probeLife = 900

// caller makes single calls to STS and judges the answers. Only the goroutine
// of Run uses it.
type caller struct {
	sts            STS
	role           role
	sessionName    string
	sourceIdentity string
	tags           []types.Tag

	region    string // as the client last said
	staleBase bool   // STS refused the base credentials: do not reuse cached ones
}

func newCaller(cfg Config) (*caller, error) {
	r, err := parseRole(cfg.RoleARN)
	if err != nil {
		return nil, fmt.Errorf("role ARN: %w", err)
	}
	if err := checkName(cfg.SessionName); err != nil {
		return nil, fmt.Errorf("session name %q: %w", cfg.SessionName, err)
	}
	if err := checkName(cfg.SourceIdentity); err != nil {
		return nil, fmt.Errorf("source identity %q: %w", cfg.SourceIdentity, err)
	}
	if cfg.STS == nil {
		return nil, errors.New("no STS client")
	}
	c := &caller{sts: cfg.STS, role: r, sessionName: cfg.SessionName, sourceIdentity: cfg.SourceIdentity}
	for _, key := range slices.Sorted(maps.Keys(cfg.Tags)) {
		c.tags = append(c.tags, types.Tag{Key: aws.String(key), Value: aws.String(cfg.Tags[key])})
	}
	return c, nil
}

// answer is the outcome of one AssumeRole that succeeded.
type answer struct {
	lease  *lease
	offset time.Duration // local clock minus AWS's; 0 when unknown
}

// assume makes one AssumeRole call through stscreds and checks everything
// that it promises before anybody sees it.
func (c *caller) assume(ctx context.Context) (answer, *Error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	w := &witness{caller: c}
	provider := stscreds.NewAssumeRoleProvider(w, c.role.arn, func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = c.sessionName
		o.SourceIdentity = aws.String(c.sourceIdentity)
		o.Duration = sessionLife
		o.Tags = c.tags
	})
	sent := time.Now()
	creds, err := provider.Retrieve(ctx)
	got := time.Now()
	facts := call{role: c.role, sourceIdentity: c.sourceIdentity, region: c.region, now: got}
	if err != nil {
		var api smithy.APIError
		if ctx.Err() != nil && !errors.As(err, &api) {
			err = errors.Join(err, ctx.Err()) // an answer that broke off because we gave up
		}
		cause := facts.explain(err)
		c.staleBase = cause.code == CodeBaseCredentials
		return answer{}, cause
	}
	c.staleBase = false
	return c.check(facts, w.output, creds, sent, got)
}

// check is the gate between an answer and the credentials that are served.
func (c *caller) check(facts call, out *sts.AssumeRoleOutput, creds aws.Credentials, sent, got time.Time) (answer, *Error) {
	server, known := awsmiddleware.GetServerTime(out.ResultMetadata)
	var offset time.Duration
	if known {
		offset = got.Round(0).Sub(server)
	}
	if creds.AccessKeyID == "" || creds.SecretAccessKey == "" || creds.SessionToken == "" || creds.Expires.IsZero() {
		return answer{}, facts.error(nil, CodeFailed, "check the STS endpoint and any proxy on the way to it",
			"STS answered without all of key, secret, token and expiration")
	}
	var arn, identity string
	if out.AssumedRoleUser != nil {
		arn = aws.ToString(out.AssumedRoleUser.Arn)
	}
	identity = aws.ToString(out.SourceIdentity)
	if cause := c.checkARN(facts, arn); cause != nil {
		return answer{}, cause
	}
	if identity != c.sourceIdentity {
		return answer{}, facts.error(nil, CodeMisattributed, misattributedRemedy,
			"STS answered with source identity %q instead of %q", identity, c.sourceIdentity)
	}
	l := newLease(creds, sent, got, server)
	if !l.valid(got) {
		if offset.Abs() > maxSkew {
			return answer{}, facts.clockSkew(nil, offset)
		}
		return answer{}, facts.error(nil, CodeFailed, clockRemedy,
			"STS answered with credentials that ended at %s", creds.Expires.UTC().Format(time.RFC3339))
	}
	return answer{lease: l, offset: offset}, nil
}

const misattributedRemedy = "check the STS endpoint and any proxy on the way to it: these credentials would have acted under another name, so they are not served"

// checkARN compares the ARN of a session with the one that was asked for. The
// case of a role's name is not significant to IAM; the session's is.
func (c *caller) checkARN(facts call, arn string) *Error {
	want := c.role.sessionARN(c.sessionName)
	n := len(want) - len(c.sessionName)
	if len(arn) == len(want) && strings.EqualFold(arn[:n], want[:n]) && arn[n:] == want[n:] {
		return nil
	}
	return facts.error(nil, CodeMisattributed, misattributedRemedy, "STS answered for %q instead of %q", arn, want)
}

// probe finds out why sts:SetSourceIdentity was refused: STS words a missing
// permission and a forbidden change of name alike. It assumes the role once
// without a source identity; a session that carries a name hands it on, and
// the answer tells whose. The credentials of the answer are dropped at once.
// It leaves one AssumeRole record in CloudTrail and returns nil, and whether
// STS did answer, when there is no conflict to be seen.
func (c *caller) probe(ctx context.Context) (conflict *Error, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.sts.AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn:         aws.String(c.role.arn),
		RoleSessionName: aws.String(c.sessionName),
		DurationSeconds: aws.Int32(probeLife),
		Tags:            c.tags,
	}, c.options)
	facts := call{role: c.role, sourceIdentity: c.sourceIdentity, region: c.region, now: time.Now()}
	if err != nil {
		return nil, facts.explain(err).denied()
	}
	if out == nil {
		return nil, false
	}
	if name := aws.ToString(out.SourceIdentity); name != "" && name != c.sourceIdentity {
		return facts.error(nil, CodeSourceIdentityConflict,
			fmt.Sprintf("a source identity cannot be changed once it is set: let nbidentityd use %q, or find who starts the session of this notebook with that name (in Studio: ExecutionRoleIdentityConfig of the domain) and stop it", name),
			"the base session already carries the source identity %q, so it cannot become %q", name, c.sourceIdentity), true
	}
	return nil, true
}

// verify asks STS who creds are. It returns misattributed when they are
// somebody else, another error when there was no answer, and the ARN.
func (c *caller) verify(ctx context.Context, creds aws.Credentials) (arn string, cause *Error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, c.options, func(o *sts.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, nil })
	})
	facts := call{doing: "asking STS for the name of the new credentials", role: c.role, region: c.region, now: time.Now()}
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		return "", facts.error(err, CodeFailed, "", "%s: %s", api.ErrorCode(), api.ErrorMessage())
	case err != nil:
		return "", facts.explain(err)
	case out == nil || aws.ToString(out.Arn) == "":
		return "", facts.explain(errNoAnswer)
	}
	return aws.ToString(out.Arn), c.checkARN(facts, aws.ToString(out.Arn))
}

// options adjusts the client for one call. Its own retryer must not multiply
// our attempts; errors of the base credentials must be told from those of
// STS; and base credentials that STS has refused must be read afresh.
func (c *caller) options(o *sts.Options) {
	c.region = o.Region
	o.Retryer = aws.NopRetryer{}
	if o.Credentials == nil {
		return
	}
	base := o.Credentials
	if cache, ok := base.(*aws.CredentialsCache); ok && c.staleBase {
		cache.Invalidate()
	}
	o.Credentials = aws.CredentialsProviderFunc(func(ctx context.Context) (aws.Credentials, error) {
		creds, err := base.Retrieve(ctx)
		if err == nil && !creds.HasKeys() {
			err = errors.New("the answer holds no keys")
		}
		if err != nil {
			return aws.Credentials{}, &baseError{err}
		}
		return creds, nil
	})
}

// errNoAnswer stands for a call that returned neither an answer nor an error.
var errNoAnswer = errors.New("no answer")

// witness is the stscreds.AssumeRoleAPIClient of one call. It keeps the
// output, of which stscreds hands on only the credentials.
type witness struct {
	*caller
	output *sts.AssumeRoleOutput
}

// AssumeRole calls STS.
func (w *witness) AssumeRole(ctx context.Context, in *sts.AssumeRoleInput, optFns ...func(*sts.Options)) (*sts.AssumeRoleOutput, error) {
	out, err := w.sts.AssumeRole(ctx, in, append(optFns, w.options)...)
	if err != nil {
		return nil, err
	}
	if out == nil || out.Credentials == nil {
		return nil, errNoAnswer
	}
	w.output = out
	return out, nil
}
