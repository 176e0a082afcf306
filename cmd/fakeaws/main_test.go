package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

// start runs fakeaws until the test ends or stop is called, which returns the
// exit code.
func start(t *testing.T, args ...string) (ready, func() int) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "ready.json")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan int, 1)
	var out, errs bytes.Buffer
	go func() { done <- run(ctx, append(args, "-ready-file", file), &out, &errs) }()
	code := -1
	stop := func() int {
		cancel()
		if code < 0 {
			code = <-done
			if code != 0 {
				t.Errorf("fakeaws: exit %d: %s", code, errs.String())
			}
		}
		return code
	}
	t.Cleanup(func() { stop() })
	for range 6000 {
		var r ready
		if data, err := os.ReadFile(file); err == nil {
			if err := json.Unmarshal(data, &r); err != nil {
				t.Fatalf("ready file %q: %v", data, err)
			}
			return r, stop
		}
		select {
		case code = <-done:
			t.Fatalf("fakeaws: exit %d: %s", code, errs.String())
		case <-time.After(10 * time.Millisecond):
		}
	}
	t.Fatal("fakeaws did not become ready in a minute")
	return ready{}, nil
}

func get(t *testing.T, url string) string {
	t.Helper()
	r, err := http.Get(url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = r.Body.Close() }()
	body, err := io.ReadAll(r.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(body)
}

func TestEverythingListens(t *testing.T) {
	dir := t.TempDir()
	ca, trail, delivered := filepath.Join(dir, "ca.pem"), filepath.Join(dir, "trail"), filepath.Join(dir, "s3")
	r, stop := start(t, "-tls", "127.0.0.1:0", "-ca-file", ca, "-imds", "alice-nb=127.0.0.1:0", "-imds", "bob-nb=127.0.0.1:0", "-trail", trail, "-trail-dir", delivered)
	if r.API == "" || r.TLS == "" || len(r.IMDS) != 2 || r.Container == "" || r.Admin == "" || r.CAFile != ca || r.PID != os.Getpid() || r.Account != "111122223333" {
		t.Errorf("ready file: %+v", r)
	}
	pem, err := os.ReadFile(ca)
	if err != nil {
		t.Fatal(err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(pem)
	client := http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, ServerName: "sts.us-east-1.amazonaws.com"}}}
	resp, err := client.Get(r.TLS)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	client.CloseIdleConnections()

	if body := get(t, r.Container+r.ContainerPaths["alice-lab"]); !strings.Contains(body, `"Token"`) {
		t.Errorf("container credentials: %s", body)
	}
	if body := get(t, r.Admin+"/trail"); !strings.Contains(body, `"eventName":"AssumeRole"`) {
		t.Errorf("trail: %s", body)
	}
	if code := stop(); code != 0 {
		t.Errorf("exit %d", code)
	}
	lines, err := os.ReadFile(trail)
	if err != nil || bytes.Count(lines, []byte("\n")) != 1 {
		t.Errorf("trail file: %q, %v", lines, err)
	}
	files, err := filepath.Glob(filepath.Join(delivered, "AWSLogs/111122223333/CloudTrail/us-east-1/*/*/*/*.json.gz"))
	if err != nil || len(files) != 1 {
		t.Errorf("delivered %v, %v", files, err)
	}
	if left, _ := filepath.Glob(filepath.Join(dir, ".*")); len(left) != 0 {
		t.Errorf("temporary files left: %v", left)
	}
	if _, err := http.Get(r.API); err == nil {
		t.Error("still listening after the end")
	}
}

func TestRefuseClosesThePort(t *testing.T) {
	r, _ := start(t, "-imds", "alice-nb=127.1.255.2:0") // nobody else takes the port meanwhile
	set := func(method, body string) {
		t.Helper()
		request, err := http.NewRequest(method, r.Admin+"/faults", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(request)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
	}
	reachable := func() bool {
		client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
		resp, err := client.Get(r.IMDS["alice-nb"])
		if err == nil {
			_ = resp.Body.Close()
		}
		return err == nil
	}
	become := func(want bool) {
		t.Helper()
		for range 6000 {
			if reachable() == want {
				return
			}
			time.Sleep(10 * time.Millisecond)
		}
		t.Errorf("reachable is still %v", !want)
	}
	become(true)
	set(http.MethodPut, `{"service":"imds","kind":"refuse"}`)
	become(false)
	set(http.MethodDelete, "")
	become(true)
}

func TestUsage(t *testing.T) {
	file := filepath.Join(t.TempDir(), "bad.json")
	if err := os.WriteFile(file, []byte(`{"rolls":[]}`), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		args []string
		code int
		want string // on stderr
	}{
		{[]string{"-h"}, 0, "usage: fakeaws"},
		{[]string{"-nonsense"}, 2, "not defined"},
		{[]string{"serve"}, 2, `unexpected argument "serve"`},
		{[]string{"-imds", "127.0.0.1:0"}, 2, "want NOTEBOOK=ADDR"},
		{[]string{"-imds", "nobody=127.0.0.1:0"}, 1, `no notebook instance "nobody"`},
		{[]string{"-scenario", file}, 1, `unknown field "rolls"`},
		{[]string{"-scenario", file + ".none"}, 1, "reading scenario"},
		{[]string{"-api", "0.0.0.0:0"}, 1, `"0.0.0.0:0" is not loopback`},
		{[]string{"-api", ":0"}, 1, `":0" is not loopback`},
		{[]string{"-tls", "192.0.2.1:443"}, 1, "is not loopback"},
		{[]string{"-imds", "alice-nb=169.254.169.254:80"}, 1, "is not loopback"},
		{[]string{"-container", "example.com:80"}, 1, "is not loopback"},
		{[]string{"-admin", "[::]:0"}, 1, "is not loopback"},
		{[]string{"-api", "127.0.0.1"}, 1, "missing port"},
		{[]string{"-trail", filepath.Join(file, "x")}, 1, "opening trail"},
		{[]string{"-ca-file", filepath.Join(file, "x")}, 1, "writing authority"},
		{[]string{"-ready-file", filepath.Join(file, "x")}, 1, "writing ready file"},
	} {
		ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
		var out, errs bytes.Buffer
		code := run(ctx, tt.args, &out, &errs)
		cancel()
		if code != tt.code || !strings.Contains(errs.String(), tt.want) {
			t.Errorf("%v: exit %d, %s\nwant %d … %s", tt.args, code, errs.String(), tt.code, tt.want)
		}
	}
}

func TestPrintScenario(t *testing.T) {
	var out, errs bytes.Buffer
	if code := run(context.Background(), []string{"-print-scenario"}, &out, &errs); code != 0 {
		t.Fatalf("exit %d: %s", code, errs.String())
	}
	s, err := scenario.Parse("printed", out.Bytes())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fakeaws.New(fakeaws.Config{Scenario: s}); err != nil {
		t.Error(err)
	}
}

// clientEnv is the environment of a client that finds nothing but fakeaws.
func clientEnv(t *testing.T, r ready) []string {
	return []string{
		"HOME=" + t.TempDir(), "PATH=/usr/bin:/bin", "AWS_DEFAULT_REGION=us-east-1", "AWS_MAX_ATTEMPTS=1", "AWS_METADATA_SERVICE_TIMEOUT=30", "AWS_METADATA_SERVICE_NUM_ATTEMPTS=3", "AWS_PAGER=",
		"AWS_EC2_METADATA_SERVICE_ENDPOINT=" + r.IMDS["alice-nb"] + "/", // older botocore needs the slash
		"ENDPOINT=" + r.API,
	}
}

func program(t *testing.T, path string) string {
	t.Helper()
	if testing.Short() {
		t.Skip("needs time: an AWS client in Python takes seconds to start")
	}
	if _, err := os.Stat(path); err != nil {
		t.Skipf("needs %s: %v", path, err)
	}
	return path
}

func TestCommandLine(t *testing.T) {
	aws := program(t, "/usr/bin/aws")
	r, _ := start(t)
	for _, tt := range []struct{ args, want string }{
		{"sts get-caller-identity", `assumed-role/AmazonSageMaker-ExecutionRole/SageMaker"`},
		{"sts assume-role --role-arn arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole --role-session-name alice-nb --source-identity alice-nb", `"SourceIdentity": "alice-nb"`},
		{"sts assume-role --role-arn arn:aws:iam::111122223333:role/NoSelfTrust --role-session-name alice-nb", "(AccessDenied) when calling the AssumeRole operation"},
		{"sagemaker describe-notebook-instance --notebook-instance-name alice-nb", `"RoleArn": "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"`},
		{"iam get-role --role-name AmazonSageMaker-ExecutionRole", `"Sid": "NbIdentityAssume"`},
		{"s3api list-buckets", `"Name": "sagemaker-us-east-1-111122223333"`},
	} {
		cmd := exec.Command(aws, append([]string{"--endpoint-url", r.API}, strings.Fields(tt.args)...)...)
		cmd.Env = clientEnv(t, r)
		out, err := cmd.CombinedOutput()
		if !strings.Contains(string(out), tt.want) {
			t.Errorf("aws %s: %v: %s\nwant … %s", tt.args, err, out, tt.want)
		}
	}
}

func TestBoto3(t *testing.T) {
	python := program(t, "/usr/bin/python3")
	if err := exec.Command(python, "-c", "import boto3").Run(); err != nil {
		t.Skipf("needs boto3: %v", err)
	}
	r, _ := start(t)
	const script = `
import boto3, os
def client(name, **keys):
    return boto3.client(name, endpoint_url=os.environ["ENDPOINT"], **keys)
print(client("sts").get_caller_identity()["Arn"])
c = client("sts").assume_role(RoleArn="arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
    RoleSessionName="alice-nb", SourceIdentity="alice-nb", DurationSeconds=3600)["Credentials"]
mine = dict(aws_access_key_id=c["AccessKeyId"], aws_secret_access_key=c["SecretAccessKey"], aws_session_token=c["SessionToken"])
print(client("sts", **mine).get_caller_identity()["Arn"])
print([b["Name"] for b in client("s3", **mine).list_buckets()["Buckets"]])
print(client("s3", **mine).list_objects_v2(Bucket="sagemaker-us-east-1-111122223333")["KeyCount"])
client("s3", **mine).put_object(Bucket="sagemaker-us-east-1-111122223333", Key="a b/ü", Body=b"x")
print(client("athena", **mine).start_query_execution(QueryString="select 1")["QueryExecutionId"])
try:
    client("kms", **mine).list_keys()
except Exception as e:
    print(e)
`
	cmd := exec.Command(python, "-c", script)
	cmd.Env = clientEnv(t, r)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	for _, want := range []string{"ExecutionRole/SageMaker\n", "ExecutionRole/alice-nb\n", "['sagemaker-us-east-1-111122223333']\n0\n", "(AccessDeniedException) when calling the ListKeys operation"} {
		if !strings.Contains(string(out), want) {
			t.Errorf("no %q in\n%s", want, out)
		}
	}
	attributed := 0
	for line := range strings.Lines(get(t, r.Admin+"/trail")) {
		var record fakeaws.Record
		if err := json.Unmarshal([]byte(line), &record); err != nil {
			t.Fatal(err)
		}
		if c := record.UserIdentity.SessionContext; c != nil && c.SourceIdentity == "alice-nb" {
			attributed++
		}
	}
	if attributed != 6 {
		t.Errorf("%d attributed records, want 6", attributed)
	}
}
