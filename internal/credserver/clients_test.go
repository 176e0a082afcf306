package credserver

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials/ec2rolecreds"
	"github.com/aws/aws-sdk-go-v2/credentials/endpointcreds"
	"github.com/aws/aws-sdk-go-v2/feature/ec2/imds"

	"github.com/nbidentityd/nbidentityd/internal/credserver/authtoken"
)

// metadataOf is a real service with the region and nothing else.
func metadataOf(_ context.Context, path string) ([]byte, string, int, error) {
	switch path {
	case "/latest/meta-data/placement/region":
		return []byte("eu-central-1"), "text/plain", 200, nil
	case "/latest/meta-data/placement/availability-zone":
		return []byte("eu-central-1b"), "text/plain", 200, nil
	case "/latest/dynamic/instance-identity/document":
		return []byte(`{"region":"eu-central-1","instanceId":"i-0123456789abcdef0"}`), "text/plain", 200, nil
	}
	return nil, "", 404, nil
}

func wantGood(t *testing.T, got aws.Credentials, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if want := good(); got.AccessKeyID != want.AccessKeyID || got.SecretAccessKey != want.SecretAccessKey || got.SessionToken != want.SessionToken || !got.CanExpire {
		t.Errorf("credentials of %q, token %q, can expire: %v", got.AccessKeyID, got.SessionToken, got.CanExpire)
	}
}

func TestGoIMDSClient(t *testing.T) {
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{Metadata: metadataOf})
	client := imds.New(imds.Options{Endpoint: r.url(), EnableFallback: aws.FalseTernary})
	got, err := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client }).Retrieve(t.Context())
	wantGood(t, got, err)
	region, err := client.GetRegion(t.Context(), nil)
	if err != nil || region.Region != "eu-central-1" {
		t.Errorf("region %+v, %v", region, err)
	}
	document, err := client.GetInstanceIdentityDocument(t.Context(), nil)
	if err != nil || document.InstanceID != "i-0123456789abcdef0" {
		t.Errorf("document %+v, %v", document, err)
	}
}

// The Go client keeps its token over a restart of the daemon.
func TestGoIMDSClientGetsNewToken(t *testing.T) {
	s := New(Config{Credentials: &provider{value: good()}})
	r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{Metadata: metadataOf})
	addr := r.addr // the second daemon may not get the first one's port
	dial := func(ctx context.Context, network, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, network, addr)
	}
	transport := &http.Transport{DialContext: dial}
	defer transport.CloseIdleConnections()
	client := imds.New(imds.Options{Endpoint: "http://127.0.0.1", EnableFallback: aws.FalseTernary, HTTPClient: &http.Client{Transport: transport}})
	source := ec2rolecreds.New(func(o *ec2rolecreds.Options) { o.Client = client })
	got, err := source.Retrieve(t.Context())
	wantGood(t, got, err)
	if err := r.stop(); err != nil {
		t.Fatal(err)
	}
	l := listenAt(t, "127.0.0.1:0")
	addr = l.Addr().String()
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.ServeIMDS(ctx, l, IMDSConfig{}) }()
	got, err = source.Retrieve(t.Context())
	wantGood(t, got, err)
	cancel()
	if err := <-done; err != nil {
		t.Error(err)
	}
}

func TestGoContainerClient(t *testing.T) {
	p := &provider{value: good()}
	r := startContainer(t, Config{Credentials: p})
	client := func(token string) *endpointcreds.Provider {
		return endpointcreds.New(r.url()+ContainerPath, func(o *endpointcreds.Options) { o.AuthorizationToken = token })
	}
	got, err := client(r.token(t, uint32(os.Geteuid()))).Retrieve(t.Context())
	wantGood(t, got, err)
	if got.AccountID != "111122223333" {
		t.Errorf("account %q", got.AccountID)
	}
	// The reason reaches the person.
	_, err = client("wrong").Retrieve(t.Context())
	if err == nil || !strings.Contains(err.Error(), "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE") {
		t.Errorf("error %v", err)
	}
}

// An SDK's answer as the scripts below print it.
type foreign struct{ Key, Secret, Token, Method string }

func (f foreign) check(t *testing.T) {
	t.Helper()
	if want := good(); f.Key != want.AccessKeyID || f.Secret != want.SecretAccessKey || f.Token != want.SessionToken {
		t.Errorf("got %+v", f)
	}
}

// runClient runs a program of another language that prints a foreign.
func runClient(t *testing.T, env []string, program string, args ...string) foreign {
	t.Helper()
	home := t.TempDir()
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Dir = home
	cmd.Env = append([]string{"HOME=" + home, "PATH=" + os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=false",
		"AWS_METADATA_SERVICE_TIMEOUT=30", "AWS_METADATA_SERVICE_NUM_ATTEMPTS=3"}, env...)
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%s: %v\n%s", program, err, &stderr)
	}
	var f foreign
	if err := json.Unmarshal(out, &f); err != nil {
		t.Fatalf("%s: %q: %v", program, out, err)
	}
	return f
}

func containerEnv(r *onTCP) []string {
	return []string{
		"AWS_CONTAINER_CREDENTIALS_FULL_URI=" + r.url() + ContainerPath,
		"AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE=" + authtoken.Path(r.dir, uint32(os.Geteuid())),
	}
}

const botocoreScript = `
import botocore.session, json
c = botocore.session.get_session().get_credentials()
f = c.get_frozen_credentials()
print(json.dumps({"Key": f.access_key, "Secret": f.secret_key, "Token": f.token, "Method": c.method}))`

func TestBotocore(t *testing.T) {
	tested := 0
	for _, python := range []string{"python3", "/usr/bin/python3"} {
		version, err := exec.Command(python, "-c", "import botocore; print(botocore.__version__)").Output()
		if err != nil {
			continue
		}
		tested++
		t.Run(strings.TrimSpace(string(version)), func(t *testing.T) {
			t.Run("imds", func(t *testing.T) {
				r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{})
				f := runClient(t, []string{"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + r.url(), "AWS_EC2_METADATA_V1_DISABLED=true"}, python, "-c", botocoreScript)
				if f.check(t); f.Method != "iam-role" {
					t.Errorf("method %s", f.Method)
				}
			})
			t.Run("container", func(t *testing.T) {
				r := startContainer(t, Config{Credentials: &provider{value: good()}})
				env := containerEnv(r)
				if strings.HasPrefix(string(version), "1.29.") { // knows no file
					env = append(env, "AWS_CONTAINER_AUTHORIZATION_TOKEN="+r.token(t, uint32(os.Geteuid())))
				}
				if f := runClient(t, env, python, "-c", botocoreScript); f.Method != "container-role" {
					t.Errorf("method %s", f.Method)
				} else {
					f.check(t)
				}
			})
		})
	}
	if tested == 0 {
		t.Skip("needs python3 with botocore: none is installed")
	}
}

const javaScript = `
const providers = require('@aws-sdk/credential-providers');
const which = process.argv[2];
const provider = which === 'imds' ? providers.fromInstanceMetadata() : providers.fromHttp();
provider().then(c => console.log(JSON.stringify({Key: c.accessKeyId, Secret: c.secretAccessKey, Token: c.sessionToken, Method: which})),
	e => { console.error(e); process.exit(1); });`

func TestJavaScript(t *testing.T) {
	modules := os.Getenv("NODE_PATH")
	if _, err := exec.LookPath("node"); err != nil {
		t.Skip("needs node: it is not installed")
	}
	if err := exec.Command("node", "-e", "require.resolve('@aws-sdk/credential-providers')").Run(); err != nil {
		t.Skip("needs @aws-sdk/credential-providers in NODE_PATH: it is not there")
	}
	script := filepath.Join(t.TempDir(), "client.js")
	if err := os.WriteFile(script, []byte(javaScript), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Run("imds", func(t *testing.T) {
		r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{})
		runClient(t, []string{"NODE_PATH=" + modules, "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + r.url(), "AWS_EC2_METADATA_V1_DISABLED=true"},
			"node", script, "imds").check(t)
	})
	t.Run("container", func(t *testing.T) {
		r := startContainer(t, Config{Credentials: &provider{value: good()}})
		runClient(t, append(containerEnv(r), "NODE_PATH="+modules), "node", script, "container").check(t)
	})
	t.Run("fetch", func(t *testing.T) {
		r := startIMDS(t, Config{Credentials: &provider{value: good()}}, IMDSConfig{})
		out, err := exec.CommandContext(t.Context(), "node", "-e", `
			fetch(process.argv[1] + '/latest/api/token', {method: 'PUT', headers: {'x-aws-ec2-metadata-token-ttl-seconds': '60'}})
			.then(r => console.log(r.status))`, r.url()).CombinedOutput()
		if err != nil || strings.TrimSpace(string(out)) != "200" {
			t.Errorf("%s, %v", out, err)
		}
	})
}
