// Package basesession reaches AWS as the notebook that SageMaker has made, before
// anybody's name is on its calls: the session that the platform provides, the
// clients that sign with it, and the instance metadata that is not secret.
//
// AWS documents the session at the instance metadata service on notebook
// instances, and in Studio at the container endpoint whose path is in
// AWS_CONTAINER_CREDENTIALS_RELATIVE_URI.
package basesession

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws"
	awshttp "github.com/aws/aws-sdk-go-v2/aws/transport/http"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/nbidentityd/nbidentityd/internal/identity"
	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// containerPathVariable is what Studio gives to its apps and the SDKs read.
const containerPathVariable = "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"

// appID stands in the user agent of the daemon's own calls, so that CloudTrail
// tells them from a user's.
const appID = "nbidentityd"

// Clients sign with the base session of one notebook.
type Clients struct {
	STS       *sts.Client
	SageMaker *sagemaker.Client

	// CloseIdle closes the connections that nobody uses: they would last for a
	// minute and a half after the last call.
	CloseIdle func()
}

// NewClients reads nothing but the settings and, in Studio, one variable: the
// SDK's default chain would take whatever a user's files and environment say.
func NewClients(ep settings.Endpoints, nb identity.Notebook, getenv func(string) string) (Clients, error) {
	base, err := Credentials(ep, nb, getenv)
	if err != nil {
		return Clients{}, err
	}
	client, closeIdle := newHTTP(nil)
	return Clients{
		CloseIdle: closeIdle,
		STS: sts.New(sts.Options{
			HTTPClient:   client,
			Region:       nb.Region,
			Credentials:  base,
			BaseEndpoint: optional(ep.STS),
			AppID:        appID,
		}),
		SageMaker: sagemaker.New(sagemaker.Options{
			HTTPClient:   client,
			Region:       nb.Region,
			Credentials:  base,
			BaseEndpoint: optional(ep.SageMaker),
			Retryer:      aws.NopRetryer{}, // discovery paces its own attempts
			AppID:        appID,
		}),
	}, nil
}

// Credentials is the session that SageMaker itself provides: by instance
// metadata on a notebook instance, by the container endpoint in Studio.
func Credentials(ep settings.Endpoints, nb identity.Notebook, getenv func(string) string) (aws.CredentialsProvider, error) {
	if nb.Surface == identity.SurfaceNotebookInstance {
		return aws.NewCredentialsCache(instanceRole{ec2rolecreds.New(), ep.IMDS}), nil
	}
	path := ep.ContainerPath
	if path == "" {
		path = getenv(containerPathVariable)
	}
	if path == "" {
		return nil, errors.New("finding Studio's credentials: set endpoints.container_path to the app's " + containerPathVariable + ", or start the daemon with that variable")
	}
	if !strings.HasPrefix(path, "/") {
		return nil, fmt.Errorf("finding Studio's credentials: %s: want a path that starts with /, got %q", containerPathVariable, path)
	}
	return aws.NewCredentialsCache(endpointcreds.New(strings.TrimSuffix(ep.Container, "/") + path)), nil
}

// instanceRole asks the metadata service with a client of its own each time: the
// SDK's client keeps its token for five minutes, a garbled one too. What the
// provider knows of serving on when the service fails is kept.
type instanceRole struct {
	*ec2rolecreds.Provider
	endpoint string
}

func (i instanceRole) Retrieve(ctx context.Context) (aws.Credentials, error) {
	client, done := metadataClient(i.endpoint)
	defer done()
	return ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(ctx)
}

// newHTTP is the SDK's own client of HTTP, but that its idle connections can be closed,
// and that it follows no redirect: no service of ours sends one.
func newHTTP(change func(*http.Transport)) (client *http.Client, closeIdle func()) {
	transport := awshttp.NewBuildableClient().GetTransport()
	if change != nil {
		change(transport)
	}
	client = &http.Client{
		Transport:     transport,
		CheckRedirect: func(*http.Request, []*http.Request) error { return http.ErrUseLastResponse },
	}
	return client, transport.CloseIdleConnections
}

func optional(s string) *string {
	if s == "" {
		return nil
	}
	return &s
}
