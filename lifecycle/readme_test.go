package lifecycle_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"go.yaml.in/yaml/v3"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/lab/executable"
)

// section returns the blocks of commands of a section of the README, in its order.
func section(t *testing.T, title string) []string {
	t.Helper()
	var blocks []string
	for _, m := range regexp.MustCompile("(?ms)^ *```sh\n(.*?)^ *```$").FindAllStringSubmatch(sectionText(t, title), -1) {
		blocks = append(blocks, m[1])
	}
	return blocks
}

func sectionText(t *testing.T, title string) string {
	t.Helper()
	text, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, found := strings.Cut(string(text), "\n## "+title+"\n")
	if !found {
		t.Fatalf("README.md has no section %q", title)
	}
	body, _, _ := strings.Cut(rest, "\n## ")
	return body
}

// lines returns the commands that stand in a section by themselves.
func lines(t *testing.T, title string) (commands []string) {
	t.Helper()
	for _, m := range regexp.MustCompile("(?m)^    (nbidentityd? .*)$").FindAllStringSubmatch(sectionText(t, title), -1) {
		commands = append(commands, m[1])
	}
	if len(commands) == 0 {
		t.Fatalf("README.md has no commands in section %q", title)
	}
	return commands
}

// TestReadme is an administrator who does what the README says, against an
// account that starts without a role for any notebook.
//
// Not as in life: make dist, which CI runs by itself, leaves a tar.gz under the
// rpm's name; the calls of aws that change the account change fakeaws, and the
// deployed roles are those of the template; a notebook instance that starts is
// a directory in which the deployed script runs, with the stand-ins of instance
// for rpm and systemd (make boot-test has the real ones). The daemon, its
// client and nbidentityd's commands are the real ones.
func TestReadme(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	blocks := section(t, "A fleet, from nothing")
	if len(blocks) != 5 {
		t.Fatalf("%d blocks of commands, want 5", len(blocks))
	}
	var out string
	for _, b := range blocks {
		c := exec.Command("sh", "-eu", "-c", b)
		c.Dir = f.dir
		c.Env = append(os.Environ(), "PATH="+filepath.Join(f.dir, "bin")+":"+os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true")
		if strings.Contains(b, "nbidentityd who") {
			f.call()
			if err := f.account.Flush(f.trail); err != nil {
				t.Fatal(err)
			}
			c.Env = append(c.Env, f.auditor()...)
		}
		text, err := c.CombinedOutput()
		if err != nil {
			t.Fatalf("%v:\n%s\n%s", err, b, text)
		}
		out += string(text)
	}
	if err := os.Symlink(filepath.Join(f.trail, "AWSLogs"), filepath.Join(f.dir, "AWSLogs")); err != nil {
		t.Fatal(err)
	}
	for _, line := range slices.Concat(lines(t, "Use"), lines(t, "When something is wrong")) {
		c := exec.Command("sh", "-eu", "-c", line)
		c.Dir = f.dir
		c.Env = append(f.auditor(), "PATH="+filepath.Join(f.dir, "bin")+":"+os.Getenv("PATH"), "AWS_EC2_METADATA_DISABLED=true", "HOME="+f.dir)
		text, err := c.CombinedOutput()
		if err != nil && c.ProcessState.ExitCode() != 3 { // it has found something
			t.Errorf("%v:\n%s\n%s", err, line, text)
		}
	}
	for _, want := range []string{"AWS calls from this notebook are made as alice-nb", "alice-nb  source_identity, high  sts:GetCallerIdentity", "s3:GetObject", "checked: "} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in what the commands printed:\n%s", want, out)
		}
	}
}

// fleet is an administrator's machine with an account and its notebooks.
type fleet struct {
	t        *testing.T
	dir      string
	account  account
	trail    string
	template fleetTemplate
	stopped  map[string]bool
	attached map[string]string // notebook → lifecycle configuration
	machines map[string]*machine
	aws      func(args []string) (string, error) // instead of do; nil: none
}

// fleetTemplate is what CloudFormation would read of it.
type fleetTemplate struct {
	Resources map[string]struct {
		Type       string
		Properties struct {
			RoleName, Path                      string
			BucketName                          string
			NotebookInstanceLifecycleConfigName string
			AssumeRolePolicyDocument            map[string]any
			ManagedPolicyArns                   any
			Policies                            []struct {
				PolicyName     string
				PolicyDocument map[string]any
			}
			Tags    []struct{ Key, Value string }
			OnStart []struct {
				Content struct {
					Script string `json:"Fn::Base64"`
				}
			}
		}
	}
}

func newFleet(t *testing.T) *fleet {
	t.Helper()
	bucket, trail := t.TempDir(), t.TempDir()
	s := fakeaws.DefaultScenario()
	s.Buckets = append(s.Buckets, scenario.Bucket{Name: "example-bucket", Directory: bucket}, scenario.Bucket{Name: "example-trail", Directory: trail})
	acc, err := fakeaws.New(fakeaws.Config{Scenario: s})
	if err != nil {
		t.Fatal(err)
	}
	api := httptest.NewServer(acc.API())
	t.Cleanup(api.Close)
	f := &fleet{t: t, dir: t.TempDir(), trail: trail, account: account{Account: acc, bucket: bucket, api: api.URL},
		stopped: map[string]bool{}, attached: map[string]string{}, machines: map[string]*machine{}}
	calls := httptest.NewServer(f)
	t.Cleanup(calls.Close)
	write := func(name, text string) {
		if err := executable.Write(filepath.Join(f.dir, name), []byte(text)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(os.Mkdir(filepath.Join(f.dir, "bin"), 0o755), os.Mkdir(filepath.Join(f.dir, "dist"), 0o755)); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"aws", "make", "nbidentity"} {
		write("bin/"+name, fmt.Sprintf("#!/bin/sh\n%s=%s exec %s %s \"$@\"\n", asCall, calls.URL, built(t, "aws"), name))
	}
	write("bin/nbidentityd", fmt.Sprintf("#!/bin/sh\n[ \"$1\" != doctor ] || exec %[1]s/nbidentity nbidentityd \"$@\"\nexec %[2]s \"$@\"\n",
		filepath.Join(f.dir, "bin"), built(t, "nbidentityd")))
	return f
}

// auditor is the environment of somebody who may read the trail and the roles.
func (f *fleet) auditor() []string {
	f.t.Helper()
	f.admin(http.MethodPut, "/roles/Auditor", `{"trust": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "ec2.amazonaws.com"}, "Action": "sts:AssumeRole"}]},
		"policies": [{"name": "Read", "document": {"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Action": ["s3:ListBucket", "s3:GetObject", "cloudtrail:LookupEvents", "iam:Get*", "iam:List*", "sagemaker:Describe*", "sagemaker:List*"], "Resource": "*"}]}}]}`)
	var c struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	if err := json.Unmarshal(f.admin(http.MethodPost, "/sessions", `{"role": "Auditor"}`), &c); err != nil {
		f.t.Fatal(err)
	}
	return []string{"AWS_ACCESS_KEY_ID=" + c.AccessKeyID, "AWS_SECRET_ACCESS_KEY=" + c.SecretAccessKey, "AWS_SESSION_TOKEN=" + c.SessionToken,
		"AWS_REGION=us-east-1", "AWS_ENDPOINT_URL=" + f.account.api}
}

// admin uses the account's controls.
func (f *fleet) admin(method, path, body string) []byte {
	f.t.Helper()
	w := httptest.NewRecorder()
	f.account.Admin().ServeHTTP(w, httptest.NewRequest(method, path, strings.NewReader(body)))
	if w.Code != http.StatusOK {
		f.t.Fatalf("%s %s: %s", method, path, w.Body)
	}
	return w.Body.Bytes()
}

// asCall makes a process of the test binary a program that lets the test answer.
const asCall = "NBIDENTITYD_TEST_AS_CALL"

// forward sends the arguments to the test.
func forward(url string) int {
	body, err := json.Marshal(os.Args[1:])
	if err != nil {
		return 99
	}
	answer, err := http.Post(url, "application/json", strings.NewReader(string(body)))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 99
	}
	defer answer.Body.Close()
	if _, err := io.Copy(os.Stdout, answer.Body); err != nil || answer.StatusCode != http.StatusOK {
		return 1
	}
	return 0
}

func (f *fleet) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var args []string
	err := json.NewDecoder(r.Body).Decode(&args)
	var out string
	switch {
	case err != nil:
	case f.aws != nil && len(args) > 2 && args[0] == "aws":
		out, err = f.aws(args[1:])
	default:
		out, err = f.do(args)
	}
	if err != nil {
		w.WriteHeader(http.StatusBadRequest)
		out += "in the README's test: " + err.Error() + "\n"
	}
	_, _ = io.WriteString(w, out) // the program has gone; nobody is left to tell
}

// do is one command. Whatever it does not know is an error.
func (f *fleet) do(args []string) (string, error) {
	option := func(name string) string {
		if i := slices.Index(args, name); i >= 0 && i+1 < len(args) {
			return args[i+1]
		}
		return ""
	}
	nb := option("--notebook-instance-name")
	switch strings.Join(args[:min(3, len(args))], " ") {
	case "make dist VERSION=1.2.3":
		return "", os.WriteFile(filepath.Join(f.dir, "dist/nbidentityd-1.2.3-1.x86_64.rpm"), tarball(f.t, ""), 0o644)
	case "aws cloudformation deploy":
		return "", f.deploy(option("--template-file"), strings.TrimPrefix(option("--parameter-overrides"), "WorkPolicyArns="))
	case "aws s3 cp":
		return "", f.upload(args[3], args[4])
	case "aws sagemaker stop-notebook-instance":
		f.stopped[nb] = true
		return "", nil
	case "aws sagemaker wait":
		if args[3] != "notebook-instance-stopped" || !f.stopped[nb] {
			return "", fmt.Errorf("waiting for %s of %q, which is not being stopped", args[3], nb)
		}
		return "", nil
	case "aws sagemaker update-notebook-instance":
		if !f.stopped[nb] {
			return "", fmt.Errorf("notebook instance %q is not stopped", nb)
		}
		role := option("--role-arn")
		f.attached[nb] = option("--lifecycle-config-name")
		return "", f.account.SetNotebookRole(nb, role[strings.LastIndexByte(role, '/')+1:])
	case "aws sagemaker start-notebook-instance":
		return "", f.boot(nb)
	case "nbidentity status":
		m := f.machines["alice-nb"]
		out, err := exec.Command(built(f.t, "nbidentity"), "--socket", m.path("nb.sock"), "status").CombinedOutput()
		return string(out), err
	case "nbidentity profile add", "nbidentity profile remove":
		m := f.machines["alice-nb"]
		c := exec.Command(built(f.t, "nbidentity"), append([]string{"--socket", m.path("nb.sock")}, args[1:]...)...)
		m.user.runs(c)
		out, err := c.CombinedOutput()
		return string(out), err
	case "nbidentity nbidentityd doctor":
		c := exec.Command(built(f.t, "nbidentityd"), append(args[2:3:3], "-settings", f.machines["alice-nb"].path("nb.toml"))...)
		c.Args = append(c.Args, args[3:]...)
		c.Env = append(os.Environ(), "AWS_ENDPOINT_URL_IAM="+f.account.api)
		if option("-notebook")+option("-domain") != "" { // an administrator's machine
			c = exec.Command(built(f.t, "nbidentityd"), args[2:]...)
			c.Env = append(os.Environ(), append(f.auditor(), "AWS_EC2_METADATA_DISABLED=true")...)
		}
		out, err := c.CombinedOutput()
		if c.ProcessState.ExitCode() == 3 { // it looks at the whole machine, which others use too
			err = nil
		}
		return string(out), err
	}
	return "", fmt.Errorf("the test does not know %q", args)
}

// deploy gives the account the roles of a template.
func (f *fleet) deploy(name, work string) error {
	text, err := os.ReadFile(filepath.Join(f.dir, name))
	if err != nil {
		return err
	}
	var plain any
	if err := yaml.Unmarshal(text, &plain); err != nil {
		return err
	}
	if text, err = json.Marshal(plain); err != nil { // which takes names as they are
		return err
	}
	if err := json.Unmarshal(text, &f.template); err != nil {
		return err
	}
	for _, r := range f.template.Resources {
		if r.Type != "AWS::IAM::Role" {
			continue
		}
		role := scenario.Role{Name: r.Properties.RoleName, Path: r.Properties.Path, Tags: map[string]string{}}
		if role.Trust, err = json.Marshal(r.Properties.AssumeRolePolicyDocument); err != nil {
			return err
		}
		for _, p := range r.Properties.Policies {
			document, err := json.Marshal(p.PolicyDocument)
			if err != nil {
				return err
			}
			role.Policies = append(role.Policies, scenario.Policy{Name: p.PolicyName, Document: document})
		}
		if r.Properties.ManagedPolicyArns != nil {
			role.Policies = append(role.Policies, scenario.Policy{Name: "DataScience", ARN: work,
				Document: json.RawMessage(`{"Version":"2012-10-17","Statement":[{"Effect":"Allow","Action":"s3:List*","Resource":"*"}]}`)})
		}
		for _, tag := range r.Properties.Tags {
			role.Tags[tag.Key] = tag.Value
		}
		if err := f.account.PutRole(role); err != nil {
			return err
		}
	}
	return nil
}

// upload stores a file, in a bucket that the template has made.
func (f *fleet) upload(from, to string) error {
	bucket, key, _ := strings.Cut(strings.TrimPrefix(to, "s3://"), "/")
	made := false
	for _, r := range f.template.Resources {
		made = made || r.Type == "AWS::S3::Bucket" && r.Properties.BucketName == bucket
	}
	if !made || key == "" || strings.HasSuffix(key, "/") {
		return fmt.Errorf("no bucket or key: %s", to)
	}
	content, err := os.ReadFile(filepath.Join(f.dir, from))
	if err != nil {
		return err
	}
	path := filepath.Join(f.account.bucket, key)
	return errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, content, 0o644))
}

// boot starts a notebook instance: its lifecycle configuration runs on a new
// machine.
func (f *fleet) boot(nb string) error {
	var script string
	for _, r := range f.template.Resources {
		if r.Type == "AWS::SageMaker::NotebookInstanceLifecycleConfig" && r.Properties.NotebookInstanceLifecycleConfigName == f.attached[nb] {
			script = r.Properties.OnStart[0].Content.Script
		}
	}
	if script == "" {
		return fmt.Errorf("notebook instance %s: there is no lifecycle configuration %q", nb, f.attached[nb])
	}
	m := f.machine(nb)
	a := m.start(script)
	if a.code != 0 || !strings.Contains(a.out, "made as "+nb) {
		return fmt.Errorf("lifecycle log: exit code %d:\n%s", a.code, a.out)
	}
	f.machines[nb], f.stopped[nb] = m, false
	return nil
}

// machine is a notebook instance whose rpm unpacks a tar.gz and whose systemd
// runs the daemon under settings that lead it to the account.
func (f *fleet) machine(nb string) *machine {
	m := instance(f.t)
	handler, err := f.account.IMDS(nb)
	if err != nil {
		f.t.Error(err)
	}
	imds := httptest.NewServer(handler)
	f.t.Cleanup(imds.Close)
	m.write("metadata.json", fmt.Sprintf(`{"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/%s", "ResourceName": %q}`, nb, nb))
	m.write("nb.toml", fmt.Sprintf("metadata_file = %q\nstate_dir = %q\nsocket = %q\nclient = %q\nendpoints.sts = %q\nendpoints.sagemaker = %q\nendpoints.imds = %q\nfaces.imds_port = 0\nfaces.container_port = 0\n[[user]]\nname = \"%d\"\nhome = %q\n",
		m.path("metadata.json"), m.path("state"), m.path("nb.sock"), m.path("usr/bin/nbidentity"), f.account.api, f.account.api, imds.URL, m.user.uid, m.path("home")))
	m.program("rpm", "#!/bin/sh\nfor last; do :; done\nexec tar -xzf \"$last\" -C "+m.dir+" --strip-components=1 --no-same-owner\n")
	m.program("systemctl", "#!/bin/sh\n[ \"$*\" != 'restart nbidentityd.service' ] ||\n setsid "+m.path("usr/bin/nbidentityd")+" run -settings "+m.path("nb.toml")+" >"+m.path("log")+" 2>&1 </dev/null 8>&- &\n")
	m.program("nbidentityd", "#!/bin/sh\n# Its files are elsewhere, and /etc is not ours.\ncase $1 in\nversion) exec "+m.path("usr/bin/nbidentityd")+" version ;;\nrun) exec "+m.path("usr/bin/nbidentityd")+" run -check -settings "+m.path("nb.toml")+" ;;\nesac\n")
	m.program("nbidentity", "#!/bin/sh\nexec "+m.path("usr/bin/nbidentity")+" --socket "+m.path("nb.sock")+" \"$@\"\n")
	m.program("aws", "#!/bin/sh\nexport "+asAWS+"="+imds.URL+"\nexec '"+built(f.t, "aws")+"' \"$@\" --endpoint-url "+f.account.api+"\n")
	delete(m.env, "NBIDENTITY_PACKAGE")
	m.own()
	return m
}

// call makes a call of AWS in alice's notebook.
func (f *fleet) call() {
	f.t.Helper()
	out, err := exec.Command(built(f.t, "nbidentity"), "--socket", f.machines["alice-nb"].path("nb.sock"), "credentials").Output()
	if err != nil {
		f.t.Fatal(err)
	}
	var got struct{ AccessKeyId, SecretAccessKey, SessionToken string }
	if err := json.Unmarshal(out, &got); err != nil {
		f.t.Fatal(err)
	}
	client := sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: aws.String(f.account.api),
		Credentials: credentials.NewStaticCredentialsProvider(got.AccessKeyId, got.SecretAccessKey, got.SessionToken)})
	if _, err := client.GetCallerIdentity(f.t.Context(), &sts.GetCallerIdentityInput{}); err != nil {
		f.t.Fatal(err)
	}
}
