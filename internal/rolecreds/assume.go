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

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// probeLife is the shortest session that AWS grants, in seconds.
const probeLife = 900

// caller makes single calls to STS and judges the answers. Only the goroutine
// of Run uses it.
type caller struct {
	sts            STS
	role           identity.RoleARN
	sessionName    string
	sourceIdentity string
	tags           []types.Tag

	region    string // as the client last said
	staleBase bool   // STS refused the base credentials: do not reuse cached ones
}

func newCaller(cfg Config) (*caller, error) {
	role, err := identity.ParseRoleARN(cfg.RoleARN)
	err = errors.Join(err, identity.CheckSessionName(cfg.SessionName), identity.CheckSourceIdentity(cfg.SourceIdentity))
	if cfg.STS == nil {
		err = errors.Join(err, errors.New("no STS client"))
	}
	if err != nil {
		return nil, err
	}
	c := &caller{sts: cfg.STS, role: role, sessionName: cfg.SessionName, sourceIdentity: cfg.SourceIdentity}
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
func (c *caller) assume(ctx context.Context) (answer, *awscause.Error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()

	w := &witness{caller: c}
	provider := stscreds.NewAssumeRoleProvider(w, c.role.String(), func(o *stscreds.AssumeRoleOptions) {
		o.RoleSessionName = c.sessionName
		o.SourceIdentity = aws.String(c.sourceIdentity)
		o.Duration = sessionLife
		o.Tags = c.tags
	})
	sent := time.Now()
	creds, err := provider.Retrieve(ctx)
	got := time.Now()
	if err != nil {
		var api smithy.APIError
		if ctx.Err() != nil && !errors.As(err, &api) {
			err = errors.Join(err, ctx.Err()) // an answer that broke off because we gave up
		}
		cause := c.call().Explain(err)
		c.staleBase = cause.Code() == awscause.CodeBaseCredentials
		return answer{}, cause
	}
	c.staleBase = false
	return c.check(w.output, creds, sent, got)
}

// check is the gate between an answer and the credentials that are served.
func (c *caller) check(out *sts.AssumeRoleOutput, creds aws.Credentials, sent, got time.Time) (answer, *awscause.Error) {
	facts := c.call()
	server, known := awsmiddleware.GetServerTime(out.ResultMetadata)
	var offset time.Duration
	if known {
		offset = got.Round(0).Sub(server)
	}
	if creds.AccessKeyID == "" || creds.SecretAccessKey == "" || creds.SessionToken == "" || creds.Expires.IsZero() {
		return answer{}, facts.Error(awscause.Cause{
			Code:    awscause.CodeFailed,
			Problem: "STS answered without all of key, secret, token and expiration",
			Remedy:  "check the STS endpoint in the settings and any proxy on the way to it",
			Passing: true,
		}, nil)
	}
	var arn string
	if out.AssumedRoleUser != nil {
		arn = aws.ToString(out.AssumedRoleUser.Arn)
	}
	if cause := c.checkARN(facts, arn); cause != nil {
		return answer{}, cause
	}
	if name := aws.ToString(out.SourceIdentity); name != c.sourceIdentity {
		return answer{}, misattributed(facts, "STS answered with source identity %q instead of %q", name, c.sourceIdentity)
	}
	l := newLease(creds, sent, got, server)
	if !l.valid(got) {
		cause, wrong := awscause.Skew(offset)
		if !wrong {
			cause.Code = awscause.CodeFailed
			cause.Problem = "STS answered with credentials that ended at " + creds.Expires.UTC().Format(time.RFC3339)
		}
		return answer{}, facts.Error(cause, nil)
	}
	return answer{lease: l, offset: offset}, nil
}

func misattributed(facts awscause.Call, format string, got, want string) *awscause.Error {
	return facts.Error(awscause.Cause{
		Code:    CodeMisattributed,
		Problem: fmt.Sprintf(format, got, want),
		Remedy:  "check the STS endpoint and any proxy on the way to it: these credentials would have acted under another name, so they are not served",
	}, nil)
}

// checkARN compares the ARN of a session with the one that was asked for. The
// case of a role's name is not significant to IAM; the session's is.
func (c *caller) checkARN(facts awscause.Call, arn string) *awscause.Error {
	want := c.role.SessionARN(c.sessionName)
	n := len(want) - len(c.sessionName)
	if len(arn) == len(want) && strings.EqualFold(arn[:n], want[:n]) && arn[n:] == want[n:] {
		return nil
	}
	return misattributed(facts, "STS answered for %q instead of %q", arn, want)
}

// probe finds out why sts:SetSourceIdentity was refused: STS words a missing
// permission and a forbidden change of name alike. It assumes the role once
// without a source identity; a session that carries a name hands it on, and
// the answer tells whose. The credentials of the answer are dropped at once.
// It leaves one AssumeRole record in CloudTrail and returns nil, and whether
// STS did answer, when there is no conflict to be seen.
func (c *caller) probe(ctx context.Context) (conflict *awscause.Error, answered bool) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.sts.AssumeRole(ctx, &sts.AssumeRoleInput{
		RoleArn:         aws.String(c.role.String()),
		RoleSessionName: aws.String(c.sessionName),
		DurationSeconds: aws.Int32(probeLife),
		Tags:            c.tags,
	}, c.options)
	if err != nil {
		code := c.call().Explain(err).Code()
		return nil, code == CodeDeniedAssumeRole || code == CodeDeniedSetSourceIdentity
	}
	if out == nil {
		return nil, false
	}
	if name := aws.ToString(out.SourceIdentity); name != "" && name != c.sourceIdentity {
		return c.call().Error(awscause.Cause{
			Code:    CodeSourceIdentityConflict,
			Problem: fmt.Sprintf("the base session already carries the source identity %q, so it cannot become %q", name, c.sourceIdentity),
			Remedy:  fmt.Sprintf("a source identity cannot be changed once it is set: let nbidentityd use %q, or find who starts the session of this notebook with that name (in Studio: ExecutionRoleIdentityConfig of the domain) and stop it", name),
		}, nil), true
	}
	return nil, true
}

// verify asks STS who creds are. It returns misattributed when they are
// somebody else, another error when there was no answer, and the ARN.
func (c *caller) verify(ctx context.Context, creds aws.Credentials) (arn string, cause *awscause.Error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	out, err := c.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{}, c.options, func(o *sts.Options) {
		o.Credentials = aws.CredentialsProviderFunc(func(context.Context) (aws.Credentials, error) { return creds, nil })
	})
	facts := c.call()
	facts.Doing = "asking STS for the name of the new credentials"
	var api smithy.APIError
	switch {
	case errors.As(err, &api):
		return "", facts.Error(awscause.Cause{Code: awscause.CodeFailed, Problem: api.ErrorCode() + ": " + api.ErrorMessage(), Passing: true}, err)
	case err != nil:
		return "", facts.Explain(err)
	case out == nil || aws.ToString(out.Arn) == "":
		return "", facts.Explain(errNoAnswer)
	}
	return aws.ToString(out.Arn), c.checkARN(facts, aws.ToString(out.Arn))
}

// options adjusts the client for one call. Its own retryer must not multiply
// our attempts; base credentials that STS has refused must be read afresh; and
// an answer of the metadata service without keys is no credentials.
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
		return creds, err
	})
}

// errNoAnswer stands for a call that returned neither an answer nor an error.
var errNoAnswer = errors.New("it is empty")

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
