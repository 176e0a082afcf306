package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/gauge"
)

// knowledgeCenter is the profile of AWS's own article on telling notebooks
// apart: every process assumes the role itself.
const knowledgeCenter = `[default]
role_arn = arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole
credential_source = Ec2InstanceMetadata
role_session_name = alice-nb
region = us-east-1
sts_regional_endpoints = regional
`

// lax is the trust policy that the article needs: it asks for no source identity,
// which its profile could not give.
const lax = `{"Version": "2012-10-17", "Statement": [
 {"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"]},
 {"Effect": "Allow", "Principal": {"AWS": "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"}, "Action": ["sts:AssumeRole", "sts:SetSourceIdentity"]}]}`

// credentialsOnly is a fresh process that finds its credentials, says how many
// seconds that took, and ends.
const credentialsOnly = `import boto3, time
session, begun = boto3.Session(), time.perf_counter()
assert session.get_credentials().get_frozen_credentials().token
print(time.perf_counter() - begun)`

// boto prints what a fresh process of boto3 waits for its credentials, through
// the daemon and through the article's profile, over several links to AWS.
func boto(ctx context.Context, l *lab.Lab, account *lab.Account, ours *lab.Notebook, runs int) error {
	if err := exec.CommandContext(ctx, "python3", "-c", "import boto3").Run(); err != nil {
		fmt.Println("bench: boto3: skipped: python3 cannot import boto3 (Debian: python3-boto3)")
		return nil
	}
	if err := account.Trust(ctx, "AmazonSageMaker-ExecutionRole", lax); err != nil {
		return err
	}
	theirs := filepath.Join(l.Dir, "knowledge-center")
	if err := os.WriteFile(theirs, []byte(knowledgeCenter), 0o600); err != nil {
		return err
	}
	env := []string{"AWS_ENDPOINT_URL_STS=" + account.API, "AWS_ENDPOINT_URL=" + account.API, "AWS_EC2_METADATA_SERVICE_ENDPOINT=" + account.IMDS["alice-nb"]}
	through := map[string]func() *exec.Cmd{
		"nbidentityd": func() *exec.Cmd { return ours.Command(ctx, env, "python3", "-c", credentialsOnly) },
		"knowledge-center": func() *exec.Cmd {
			return ours.Command(ctx, append(env, "AWS_CONFIG_FILE="+theirs), "python3", "-c", credentialsOnly)
		},
	}
	for _, link := range links {
		if err := far(ctx, account, link); err != nil {
			return err
		}
		took := map[string][]time.Duration{}
		calls := map[string]int{}
		for range runs {
			for name, command := range through {
				before, err := account.Records(ctx, 0)
				if err != nil {
					return err
				}
				t, err := timed(command())
				if err != nil {
					return fmt.Errorf("boto3 through %s: %w", name, err)
				}
				took[name] = append(took[name], t)
				after, err := account.Records(ctx, len(before))
				if err != nil {
					return err
				}
				for _, r := range after {
					if r.ByClient() {
						calls[name]++
					}
				}
			}
		}
		us, them := gauge.Summarise(took["nbidentityd"]), gauge.Summarise(took["knowledge-center"])
		fmt.Printf("bench: boto3-credentials %.0f ms, %d STS calls; knowledge-center profile %.0f ms, %.1fx, %d STS calls (medians of %d fresh processes, deviations %.0f and %.0f ms, link %d ms)\n",
			gauge.MS(us.Median), calls["nbidentityd"]/runs, gauge.MS(them.Median), gauge.Ratio(them.Median, us.Median), calls["knowledge-center"]/runs, runs, gauge.MS(us.Deviation), gauge.MS(them.Deviation), link.Milliseconds())
	}
	return account.Behave(ctx)
}

// timed runs a process that prints the seconds that it took.
func timed(cmd *exec.Cmd) (time.Duration, error) {
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		text := stderr.String()
		return 0, fmt.Errorf("%w: %s", err, text[max(0, len(text)-300):]) // a traceback ends with the reason
	}
	seconds, err := strconv.ParseFloat(strings.TrimSpace(string(out)), 64)
	return time.Duration(seconds * float64(time.Second)), err
}
