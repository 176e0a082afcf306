package doctor

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"syscall"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	awsmiddleware "github.com/aws/aws-sdk-go-v2/aws/middleware"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/service/iam"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/basesession"
	"github.com/nbidentityd/nbidentityd/internal/doctor/report"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// callTime bounds one call, its retries included.
const callTime = 4 * time.Second

// appID stands in the user agent of doctor's calls: in CloudTrail they are told
// from the daemon's and from a user's.
const appID = "nbidentityd-doctor"

// iamEndpoint is the SDKs' own variable for an endpoint without private DNS.
const iamEndpoint = "AWS_ENDPOINT_URL_IAM"

// cloud is AWS with one set of credentials.
type cloud struct {
	credentials aws.CredentialsProvider
	sts         *sts.Client
	sagemaker   *sagemaker.Client
	iam         *iam.Client
}

// connect makes the clients: with the base credentials on the machine, with the
// administrator's own elsewhere.
func (e *examination) connect() (cloud, error) {
	var c cloud
	region := ""
	if e.Admin != nil {
		c.credentials, region = e.Admin.AWS.Credentials, e.Admin.AWS.Region
	} else {
		nb, err := e.notebook()
		if err != nil {
			return cloud{}, errors.New("without the metadata file region and credentials are not known")
		}
		if c.credentials, err = basesession.Credentials(e.Settings.Endpoints, nb, e.getenv); err != nil {
			return cloud{}, err
		}
		region = nb.Region
	}
	// A wrong clock shows as a refusal that a second try mends.
	retryer := retry.NewStandard(func(o *retry.StandardOptions) { o.MaxAttempts, o.MaxBackoff = 2, 100*time.Millisecond })
	c.sts = sts.New(sts.Options{Region: region, Credentials: c.credentials, BaseEndpoint: e.endpoint(e.Settings.Endpoints.STS, "AWS_ENDPOINT_URL_STS"), Retryer: retryer, AppID: appID})
	c.sagemaker = sagemaker.New(sagemaker.Options{Region: region, Credentials: c.credentials, BaseEndpoint: e.endpoint(e.Settings.Endpoints.SageMaker, "AWS_ENDPOINT_URL_SAGEMAKER"), Retryer: retryer, AppID: appID})
	c.iam = iam.New(iam.Options{Region: region, Credentials: c.credentials, BaseEndpoint: e.endpoint("", iamEndpoint), Retryer: retryer, AppID: appID})
	return c, nil
}

// endpoint is the settings' own, or that of the environment of whoever runs
// doctor; nil is the public one.
func (e *examination) endpoint(set, variable string) *string {
	if set == "" {
		set = e.Getenv(variable)
	}
	if set == "" {
		return nil
	}
	return &set
}

func hostOf(endpoint string) string {
	u, err := url.Parse(endpoint)
	if err != nil {
		return ""
	}
	return u.Hostname()
}

// stsHost is AWS's own for a region, whose domain depends on the partition.
func stsHost(ctx context.Context, region string) string {
	at, err := sts.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sts.EndpointParameters{Region: &region}.WithDefaults())
	if err != nil {
		return "sts." + region + ".amazonaws.com" // no region that the SDK takes for one
	}
	return at.URI.Host
}

// sageMakerHost is the same for SageMaker.
func sageMakerHost(ctx context.Context, region string) string {
	at, err := sagemaker.NewDefaultEndpointResolverV2().ResolveEndpoint(ctx, sagemaker.EndpointParameters{Region: &region}.WithDefaults())
	if err != nil {
		return "api.sagemaker." + region + ".amazonaws.com"
	}
	return at.URI.Host
}

// baseError is the cause of everything that fails for want of credentials.
type baseError struct{ err error }

func (b *baseError) Error() string { return "there are no credentials to ask with" }
func (b *baseError) Unwrap() error { return b.err }

// caller is who the credentials are.
type caller struct {
	arn    string
	skew   time.Duration // local clock minus AWS's; 0 when unknown
	region string
}

// session is the name of the caller's session, "" when it is none.
func (c caller) session() string {
	if !strings.Contains(c.arn, ":assumed-role/") {
		return ""
	}
	return c.arn[strings.LastIndexByte(c.arn, '/')+1:]
}

// account is the caller's; partition likewise.
func (c caller) account() (account, partition string) {
	parts := strings.SplitN(c.arn, ":", 6)
	if len(parts) < 6 {
		return "", ""
	}
	return parts[4], parts[1]
}

func (e *examination) findCaller(ctx context.Context) (caller, error) {
	c, err := e.cloud()
	if err != nil {
		return caller{}, err
	}
	first, cancel := context.WithTimeout(ctx, callTime)
	defer cancel()
	if _, err := c.credentials.Retrieve(first); err != nil {
		return caller{}, &baseError{err}
	}
	ctx, cancel = context.WithTimeout(ctx, callTime)
	defer cancel()
	out, err := c.sts.GetCallerIdentity(ctx, &sts.GetCallerIdentityInput{})
	region := c.sts.Options().Region
	if err != nil {
		call := awscause.Call{
			Doing: "asking STS who the base credentials are", Service: "STS", Endpoint: "sts", Region: region, Timeout: callTime,
			Denied: func(message string) awscause.Cause {
				return awscause.Cause{Code: "denied", Problem: message, Remedy: "allow sts:GetCallerIdentity in the policy of the VPC endpoint"}
			},
		}
		return caller{region: region}, call.Explain(err)
	}
	found := caller{arn: aws.ToString(out.Arn), region: region}
	if server, known := awsmiddleware.GetServerTime(out.ResultMetadata); known {
		found.skew = time.Now().Round(0).Sub(server)
	}
	return found, nil
}

// checkBase is about the credentials themselves.
func (e *examination) checkBase(_ context.Context, s *report.Sheet) error {
	if e.aside() {
		return report.ErrNotApplicable
	}
	nb, err := e.notebook()
	if err != nil {
		return errors.New("without the metadata file it is not known where they come from")
	}
	_, err = e.caller()
	var base *baseError
	if !errors.As(err, &base) {
		if _, connectErr := e.cloud(); connectErr != nil {
			if r, err := e.status(); err == nil && r.Credential != nil {
				return fmt.Errorf("%w; the daemon has it", connectErr)
			}
			s.Find(report.Finding{ID: "base_container_path", Subject: e.SettingsPath, Saw: connectErr.Error(),
				Means:    "nbidentityd has no credentials to begin with",
				Commands: []string{"printenv AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"},
				Hint:     "run doctor in a terminal of the app, which has this variable, and start the daemon from the lifecycle configuration, which has it too; or set endpoints.container_path in " + e.SettingsPath})
		}
		return nil
	}
	f := report.Finding{ID: "base_credentials", Means: "nbidentityd has no credentials to begin with; when its last ones end, the notebook's calls fail"}
	var cause error = base.err
	for inner := cause; inner != nil; inner = errors.Unwrap(inner) {
		cause = inner
	}
	// The text, since the SDK's error hides its cause.
	if e.host().Fenced && os.Geteuid() != 0 && strings.Contains(base.err.Error(), syscall.ECONNREFUSED.Error()) {
		return errors.New("the fence leads this user to the daemon, which is not there; root can look")
	}
	if nb.Surface == identity.SurfaceNotebookInstance {
		f.Subject = "instance metadata"
		f.Saw = fmt.Sprintf("the metadata service gives no credentials: %s", cause)
		f.Commands = []string{"curl -sS -m 5 -X PUT -H 'X-aws-ec2-metadata-token-ttl-seconds: 60' -o /dev/null -w '%{http_code}\\n' http://169.254.169.254/latest/api/token"}
		f.Hint = "200 is right. Anything else is a route, proxy or packet rule on this machine; a stop and start of the notebook instance brings the platform's own back"
	} else {
		f.Subject = "container credentials"
		f.Saw = fmt.Sprintf("Studio's credentials endpoint gives none: %s", cause)
		f.Commands = []string{"curl -sS -m 5 -o /dev/null -w '%{http_code}\\n' http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"}
		f.Hint = "200 is right. 404 means that the path is of an earlier app: restart the daemon in this one. Delete and create the app when it lasts; its execution role must exist"
	}
	s.Find(f)
	return nil
}

// checkSTS is about the way to STS, and the clock.
func (e *examination) checkSTS(ctx context.Context, s *report.Sheet) error {
	if e.aside() {
		return report.ErrNotApplicable
	}
	c, err := e.caller()
	var cause *awscause.Error
	switch {
	case err == nil:
		if skew, wrong := awscause.Skew(c.skew); wrong {
			foundSkew(s, skew.Problem)
		}
		return nil
	case errors.As(err, &cause):
		e.awsFinding(s, "sts", stsHost(ctx, c.region), c.region, e.Settings.Endpoints.STS, cause)
		return nil
	}
	return err
}

func foundSkew(s *report.Sheet, saw string) {
	s.Find(report.Finding{ID: "clock_skew", Subject: "the clock", Saw: saw,
		Means: "AWS refuses what is signed with a clock that is five minutes off, and credentials seem to live longer or shorter than they do", Commands: []string{"chronyc makestep"},
		Hint: "chronyc tracking then shows whether the clock follows a time source (169.254.169.123 on EC2)"})
}

// awsFinding is what a call that did not work comes to. service is its name in
// ids and in PrivateLink.
func (e *examination) awsFinding(s *report.Sheet, service, host, region, own string, cause *awscause.Error) {
	title := map[string]string{"sts": "STS", "sagemaker": "SageMaker"}[service]
	link := map[string]string{"sts": "sts", "sagemaker": "sagemaker.api"}[service]
	f := report.Finding{ID: service + "_failed", Subject: title, Saw: cause.Error(), Means: "nbidentityd cannot do its work as long as this lasts", Hint: cause.Remedy()}
	switch cause.Code() {
	case awscause.CodeClockSkew:
		foundSkew(s, cause.Error())
		return
	case awscause.CodeThrottled:
		s.Note("throttled", "%s", cause.Error())
		return
	case awscause.CodeBaseCredentials:
		f.ID, f.Subject = "base_refused", "base credentials"
		f.Means = "AWS does not know these credentials any more: nbidentityd cannot renew its own"
		f.Commands = []string{"aws sts get-caller-identity --endpoint-url https://" + host, "systemctl restart " + unit}
	case awscause.CodeUnreachable:
		f.ID = service + "_unreachable"
		f.Means = "nbidentityd gets no answer from " + title + ", so the notebook has no credentials, or keeps the last ones until they end"
		f.Subject = host
		endpoints := "--filters Name=service-name,Values=com.amazonaws." + region + "." + link
		f.Commands = []string{
			"getent hosts " + host,
			"aws ec2 describe-vpc-endpoints " + endpoints + " --query 'VpcEndpoints[].[VpcEndpointId,State,PrivateDnsEnabled,Groups]'",
			"aws ec2 modify-vpc-endpoint --private-dns-enabled --vpc-endpoint-id $(aws ec2 describe-vpc-endpoints " + endpoints + " --query 'VpcEndpoints[0].VpcEndpointId' --output text)",
		}
		if own != "" {
			f.Subject = own
			f.Commands = []string{"curl -sS -m 5 -o /dev/null -w '%{http_code}\\n' " + own, "grep -n -A9 '^\\[endpoints\\]' " + e.SettingsPath}
			f.Hint += "; the settings name this endpoint, and without that line the public one of the region is used"
		}
	}
	s.Find(f)
}
