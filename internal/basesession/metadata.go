package basesession

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"
	smithyhttp "github.com/aws/smithy-go/transport/http"
)

// Those of the SDK's client of the service, which is near: it answers soon or is
// not there.
const (
	dialTimeout   = 250 * time.Millisecond
	answerTimeout = 500 * time.Millisecond
)

// metadataClient is a client of the service for one question. done closes its
// connections: otherwise whoever asks ours for metadata again and again would
// leave the daemon without descriptors.
func metadataClient(endpoint string) (client *imds.Client, done func()) {
	near, done := newHTTP(func(t *http.Transport) {
		t.DialContext = (&net.Dialer{Timeout: dialTimeout}).DialContext
		t.ResponseHeaderTimeout = answerTimeout
	})
	return imds.New(imds.Options{Endpoint: endpoint, EnableFallback: aws.FalseTernary, HTTPClient: near}), done
}

// Metadata asks the instance metadata service at endpoint, "" is AWS's own, for a
// path below /latest. A refusal of the service's is its status, and no error.
func Metadata(ctx context.Context, endpoint, path string) (body []byte, contentType string, status int, err error) {
	client, done := metadataClient(endpoint)
	defer done()
	content, err := fetchMetadata(ctx, client, path)
	if refused := (*smithyhttp.ResponseError)(nil); errors.As(err, &refused) {
		return nil, "", refused.HTTPStatusCode(), nil
	}
	if err != nil {
		return nil, "", 0, err
	}
	defer content.Close()
	body, err = io.ReadAll(content)
	return body, "text/plain", http.StatusOK, err
}

func fetchMetadata(ctx context.Context, client *imds.Client, path string) (io.ReadCloser, error) {
	if rest, ok := strings.CutPrefix(path, "/latest/dynamic/"); ok {
		out, err := client.GetDynamicData(ctx, &imds.GetDynamicDataInput{Path: rest})
		if err != nil {
			return nil, err
		}
		return out.Content, nil
	}
	rest, ok := strings.CutPrefix(path, "/latest/meta-data/")
	if !ok {
		return nil, fmt.Errorf("asking instance metadata: unexpected path %q", path)
	}
	out, err := client.GetMetadata(ctx, &imds.GetMetadataInput{Path: rest})
	if err != nil {
		return nil, err
	}
	return out.Content, nil
}
