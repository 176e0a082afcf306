package discovery

import (
	"context"
	"crypto/x509"
	"errors"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/aws/retry"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/google/go-cmp/cmp"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

const sharedRole = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"

func newAccount(t *testing.T) *fakeaws.Account {
	t.Helper()
	account, err := fakeaws.New(fakeaws.Config{Scenario: fakeaws.DefaultScenario()})
	if err != nil {
		t.Fatal(err)
	}
	return account
}

// client is the SDK's client as the daemon on a notebook instance has it, or in
// an app when app is not empty. It does not retry by itself.
func client(account *fakeaws.Account, notebook, app string) *sagemaker.Client {
	http := &http.Client{Transport: account.TransportFor(fakeaws.Client{Notebook: notebook})}
	var base aws.CredentialsProvider = ec2rolecreds.New(func(o *ec2rolecreds.Options) {
		o.Client = imds.New(imds.Options{HTTPClient: http, Retryer: aws.NopRetryer{}})
	})
	if app != "" {
		base = endpointcreds.New("http://169.254.170.2"+account.ContainerPath(app), func(o *endpointcreds.Options) {
			o.HTTPClient = http
			o.Retryer = aws.NopRetryer{}
		})
	}
	return sagemaker.New(sagemaker.Options{Region: "us-east-1", HTTPClient: http, Credentials: base, Retryer: aws.NopRetryer{}})
}

func inDomain(nb identity.Notebook) identity.Notebook {
	nb.DomainID = "d-exampledomain"
	return nb
}

// describeCalls counts the calls that reached SageMaker.
func describeCalls(account *fakeaws.Account) int {
	n := 0
	for _, r := range account.Records() {
		if r.EventSource == "sagemaker.amazonaws.com" && strings.HasPrefix(r.EventName, "Describe") {
			n++
		}
	}
	return n
}

func TestAccount(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name          string
		nb            identity.Notebook
		notebook, app string
		propagation   bool
		want          Facts
		calls         int
	}{
		{
			name: "notebook instance", nb: classic, notebook: "alice-nb",
			want:  Facts{Subject: identity.Subject{Kind: identity.KindNotebook, Name: "alice-nb"}, RoleSource: RoleFromInstance, PropagationKnown: true},
			calls: 1,
		},
		{
			name: "Studio Classic profile", nb: inDomain(profile), app: "alice-classic",
			want: Facts{Subject: identity.Subject{Kind: identity.KindProfile, Name: "alice", Domain: "d-exampledomain", App: "k1"},
				RoleSource: RoleFromDomain, PropagationKnown: true},
			calls: 2,
		},
		{
			name: "private space", nb: inDomain(private), app: "alice-lab", propagation: true,
			want: Facts{Subject: identity.Subject{Kind: identity.KindProfile, Name: "alice", Domain: "d-exampledomain", Space: "alice-space", App: "default"},
				RoleSource: RoleFromDomain, PropagatesSourceIdentity: true, PropagationKnown: true},
			calls: 3,
		},
		{
			name: "shared space", nb: inDomain(shared), app: "team-lab", propagation: true,
			want: Facts{Subject: identity.Subject{Kind: identity.KindSharedSpace, Name: "team-space", Domain: "d-exampledomain", Space: "team-space", App: "default"},
				RoleSource: RoleFromDomain, PropagationKnown: true},
			calls: 2,
		},
	} {
		t.Run(tt.name, func(t *testing.T) {
			account := newAccount(t)
			if err := account.SetPropagation(tt.propagation); err != nil {
				t.Fatal(err)
			}
			tt.want.ExecutionRoleARN = sharedRole
			cfg := Config{SageMaker: client(account, tt.notebook, tt.app), StateFile: filepath.Join(t.TempDir(), "facts.json"),
				OnProblem: func(err error) { t.Errorf("problem: %v", err) }}
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			for _, start := range []string{"cold", "warm"} {
				got, err := Discover(ctx, cfg, tt.nb)
				if err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(tt.want, got); diff != "" {
					t.Errorf("%s (-want +got)\n%s", start, diff)
				}
				if n := describeCalls(account); n != tt.calls {
					t.Errorf("%d Describe calls after the %s start, want %d", n, start, tt.calls)
				}
			}
		})
	}
}

// The causes that the real client reports for a real refusal, a real fault and
// real absence are told apart.
func TestAccountProblems(t *testing.T) {
	t.Parallel()
	elsewhere := classic
	elsewhere.InstanceName = "gone-nb"
	noDescribe := classic
	noDescribe.InstanceName = "no-describe-nb"
	for _, tt := range []struct {
		name   string
		nb     identity.Notebook
		client func(t *testing.T, account *fakeaws.Account) *sagemaker.Client
		code   string
		remedy string
	}{
		{"denied", noDescribe, func(_ *testing.T, a *fakeaws.Account) *sagemaker.Client { return client(a, "no-describe-nb", "") },
			CodeDeniedDescribe, "allow sagemaker:DescribeNotebookInstance on arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/no-describe-nb"},
		{"not found", elsewhere, func(_ *testing.T, a *fakeaws.Account) *sagemaker.Client { return client(a, "alice-nb", "") },
			CodeNotFound, "us-east-1"},
		{"space not found", private, func(_ *testing.T, a *fakeaws.Account) *sagemaker.Client { return client(a, "", "alice-lab") },
			CodeNotFound, "us-east-1"},
		{"no base credentials", classic, func(_ *testing.T, a *fakeaws.Account) *sagemaker.Client { return client(a, "no-such-machine", "") },
			awscause.CodeBaseCredentials, "metadata service"},
		{"no container credentials", inDomain(private), func(_ *testing.T, a *fakeaws.Account) *sagemaker.Client {
			return client(a, "", "no-such-app")
		}, awscause.CodeBaseCredentials, "metadata service"},
		{"clock, told by the date alone", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) {
				r := reply(403, "application/x-amz-json-1.1", `{"__type":"InvalidSignatureException","message":"The request signature we calculated does not match the signature you provided."}`)
				r.Header.Set("Date", time.Now().Add(time.Hour).UTC().Format(http.TimeFormat))
				return r, nil
			})
		}, awscause.CodeClockSkew, "clock"},
		{"no DNS", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(r *http.Request) (*http.Response, error) {
				return nil, &net.OpError{Op: "dial", Net: "tcp", Err: &net.DNSError{Err: "no such host", Name: r.URL.Hostname(), IsNotFound: true}}
			})
		}, awscause.CodeUnreachable, "private DNS"},
		{"foreign certificate", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) { return nil, x509.UnknownAuthorityError{} })
		}, awscause.CodeUnreachable, "certificate authorities"},
		{"secret of another key", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) {
				return reply(403, "application/x-amz-json-1.1", `{"__type":"UnrecognizedClientException","message":"The security token included in the request is invalid."}`), nil
			})
		}, awscause.CodeBaseCredentials, "rotate"},
		{"throttled", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) {
				return reply(400, "application/x-amz-json-1.1", `{"__type":"ThrottlingException","message":"Rate exceeded"}`), nil
			})
		}, awscause.CodeThrottled, ""},
		{"throttled through the client's own retries", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			c := wireClient(func(*http.Request) (*http.Response, error) {
				return reply(400, "application/x-amz-json-1.1", `{"__type":"ThrottlingException","message":"Rate exceeded"}`), nil
			})
			o := c.Options()
			o.Retryer = retry.NewStandard()
			return sagemaker.New(o)
		}, awscause.CodeThrottled, ""},
		{"a proxy's page", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) {
				return reply(407, "text/html", "<html>Log in</html>"), nil
			})
		}, awscause.CodeFailed, "proxy"},
		{"a page instead of an answer", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) {
				return reply(200, "text/html", "<html>Welcome</html>"), nil
			})
		}, awscause.CodeFailed, "proxy"},
		{"internal error", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) {
				return reply(500, "application/x-amz-json-1.1", `{"__type":"InternalFailure"}`), nil
			})
		}, awscause.CodeFailed, ""},
		{"no connection", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) { return nil, errors.New("connect: network is unreachable") })
		}, awscause.CodeUnreachable, "com.amazonaws.us-east-1.sagemaker.api"},
		{"no answer", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(r *http.Request) (*http.Response, error) { <-r.Context().Done(); return nil, r.Context().Err() })
		}, awscause.CodeUnreachable, "NAT gateway"},
		{"answer cut off", classic, func(*testing.T, *fakeaws.Account) *sagemaker.Client {
			return wireClient(func(*http.Request) (*http.Response, error) {
				return reply(200, "application/x-amz-json-1.1", `{"RoleArn": "arn:aws:iam::1111`), nil
			})
		}, awscause.CodeFailed, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				account := newAccount(t)
				ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
				defer cancel()
				var told error
				_, err := Discover(ctx, Config{SageMaker: tt.client(t, account), OnProblem: func(err error) { told = err }}, tt.nb)
				var problem *awscause.Error
				if !errors.As(err, &problem) || problem.Code() != tt.code || !strings.Contains(problem.Remedy(), tt.remedy) {
					t.Fatalf("got error %v", err)
				}
				if !errors.As(told, &problem) || problem.Code() != tt.code {
					t.Errorf("told of %v", told)
				}
				t.Logf("%v; remedy: %s", err, problem.Remedy())
			})
		})
	}
}

// The client mends its own clock by the date of a refusal; until then the cause
// says how far it is off.
func TestClockOfAccount(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		account := newAccount(t)
		account.SetClockOffset(time.Hour)
		var told []error
		facts, err := Discover(t.Context(), Config{SageMaker: client(account, "alice-nb", ""), OnProblem: func(err error) { told = append(told, err) }}, classic)
		if err != nil || facts.ExecutionRoleARN != sharedRole {
			t.Errorf("got %+v, %v", facts, err)
		}
		var problem *awscause.Error
		if len(told) != 2 || told[1] != nil || !errors.As(told[0], &problem) ||
			problem.Code() != awscause.CodeClockSkew || !strings.Contains(problem.Error(), "1h0m0s behind AWS's") {
			t.Errorf("told of %v", told)
		}
	})
}
