package lifecycle_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sts"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

// iam is the role that a notebook has already, as the aws of the README's
// administrator sees it.
type iam struct {
	*fleet
	role scenario.Role
}

const execRole = "arn:aws:iam::111122223333:role/service-role/ExecRole"

// do is one call that the script of IAM documents makes.
func (i *iam) do(args []string) (string, error) {
	option := map[string]string{}
	for n := 2; n+1 < len(args); n += 2 {
		option[args[n]] = args[n+1]
	}
	call := strings.Join(args[:2], " ")
	if name, named := option["--role-name"]; named && name != i.role.Name {
		return "", fmt.Errorf("there is no role %s", name)
	}
	var document json.RawMessage
	if file, given := strings.CutPrefix(option["--policy-document"], "file://"); given {
		text, err := os.ReadFile(file)
		if err != nil {
			return "", err
		}
		document = text
	}
	switch call + " " + option["--query"] {
	case "sts get-caller-identity Account":
		return "111122223333\n", nil
	case "iam get-role Role.Arn":
		return execRole + "\n", nil
	case "iam get-role Role.AssumeRolePolicyDocument":
		return string(i.role.Trust), nil
	case "iam update-assume-role-policy ":
		i.role.Trust = document
	case "iam put-role-policy ":
		i.role.Policies = append(i.role.Policies, scenario.Policy{Name: option["--policy-name"], Document: document})
	default:
		return "", fmt.Errorf("the test does not know %q", args)
	}
	return "", i.account.PutRole(i.role)
}

// TestReadmeInstall is the first step of the README's section Install, on an
// administrator's machine: afterwards the role can be assumed under the
// notebook's name, by itself, and could not be before. What follows there,
// on the notebook instance, make boot-test does.
func TestReadmeInstall(t *testing.T) {
	t.Parallel()
	f := newFleet(t)
	account := &iam{fleet: f, role: scenario.Role{Name: "ExecRole", Path: "/service-role/",
		Trust: json.RawMessage(`{"Version": "2012-10-17", "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}]}`)}}
	if err := f.account.PutRole(account.role); err != nil {
		t.Fatal(err)
	}
	f.aws = account.do
	if err := account.assume(); err == nil {
		t.Error("the role can be assumed under a name before the documents are there")
	}
	commands := section(t, "Install")[0]
	c := exec.Command("sh", "-eu", "-c", commands)
	c.Dir = f.dir
	c.Env = append(os.Environ(), "PATH="+filepath.Join(f.dir, "bin")+":"+os.Getenv("PATH"))
	out, err := c.CombinedOutput()
	if err != nil {
		t.Fatalf("%v:\n%s\n%s", err, commands, out)
	}
	if want := "ExecRole: trust policy replaced"; !strings.Contains(string(out), want) || !strings.Contains(string(out), "ExecRole.trust.before.json") {
		t.Errorf("no %q, or no copy of what was there, in\n%s", want, out)
	}
	if err := account.assume(); err != nil {
		t.Error(err)
	}
}

// assume takes the name alice-nb with the role's own session, as the daemon does.
func (i *iam) assume() error {
	var c struct{ AccessKeyID, SecretAccessKey, SessionToken string }
	if err := json.Unmarshal(i.admin("POST", "/sessions", `{"role": "ExecRole"}`), &c); err != nil {
		return err
	}
	client := sts.New(sts.Options{Region: "us-east-1", BaseEndpoint: aws.String(i.account.api),
		Credentials: credentials.NewStaticCredentialsProvider(c.AccessKeyID, c.SecretAccessKey, c.SessionToken)})
	got, err := client.AssumeRole(i.t.Context(), &sts.AssumeRoleInput{RoleArn: aws.String(execRole), RoleSessionName: aws.String("alice-nb"), SourceIdentity: aws.String("alice-nb")})
	if err == nil && aws.ToString(got.SourceIdentity) != "alice-nb" {
		err = errors.New("assumed without the name")
	}
	return err
}
