// Command demo shows one AWS call before and after nbidentityd, on a notebook
// instance and in three kinds of Studio apps, with real programs against
// fakeaws. What it prints comes from the trail that fakeaws wrote, not from the
// programs' own words.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"text/tabwriter"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

func main() {
	bin := flag.String("bin", "bin", "`directory` of the built programs")
	flag.Parse()
	if err := run(context.Background(), *bin); err != nil {
		fmt.Fprintln(os.Stderr, "demo:", err)
		os.Exit(1)
	}
	fmt.Println("demo: ok")
}

// story is one notebook of fakeaws' default scenario and the name that its
// calls must carry.
type story struct {
	title    string
	notebook lab.Notebook
	app      string // of the scenario; empty on a notebook instance
	want     string
}

const appARN = "arn:aws:sagemaker:us-east-1:111122223333:app/d-exampledomain"

func stories() []story {
	return []story{
		{
			title:    "notebook instance",
			notebook: lab.Notebook{Name: "instance", Metadata: lab.Metadata},
			want:     "alice-nb",
		},
		{
			title: "Studio user profile",
			notebook: lab.Notebook{Name: "profile", Metadata: `{
				"AppType": "KernelGateway", "DomainId": "d-exampledomain", "UserProfileName": "alice",
				"ResourceArn": "` + appARN + `/alice/KernelGateway/datascience--1-0-ml-t3-medium",
				"ResourceName": "datascience--1-0-ml-t3-medium"}`},
			app: "alice-classic", want: "alice",
		},
		{
			title: "private space bob-code, owned by bob",
			notebook: lab.Notebook{Name: "private", Metadata: `{
				"AppType": "CodeEditor", "DomainId": "d-exampledomain", "SpaceName": "bob-code",
				"ResourceArn": "` + appARN + `/bob-code/CodeEditor/default", "ResourceName": "default"}`},
			app: "bob-code", want: "bob",
		},
		{
			title: "shared space team-space",
			notebook: lab.Notebook{Name: "shared", Metadata: `{
				"AppType": "JupyterLab", "DomainId": "d-exampledomain", "SpaceName": "team-space",
				"ResourceArn": "` + appARN + `/team-space/JupyterLab/default", "ResourceName": "default"}`},
			app: "team-lab", want: "team-space",
		},
	}
}

func run(ctx context.Context, bin string) (err error) {
	l, err := lab.Open("demo", bin)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, l.Discard()) }()
	account, err := l.StartAccount(ctx, "-imds", "alice-nb=127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println("One call, sts:GetCallerIdentity by the Go SDK's default chain, as CloudTrail recorded it:")
	fmt.Println()
	table := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	var wrong error
	for _, s := range stories() {
		before, after, err := s.play(ctx, l, account)
		if err != nil {
			return fmt.Errorf("%s: %w", s.title, err)
		}
		fmt.Fprintf(table, "%s\n", s.title)
		for _, row := range []struct {
			when string
			call lab.Record
		}{{"before", before}, {"after", after}} {
			identity := row.call.UserIdentity
			fmt.Fprintf(table, "  %s\t%s\tsource identity %s\n", row.when, identity.ARN, orNone(identity.SessionContext.SourceIdentity))
		}
		if before.SessionName() != "SageMaker" || after.SessionName() != s.want || after.UserIdentity.SessionContext.SourceIdentity != s.want {
			wrong = errors.Join(wrong, fmt.Errorf("%s: want SageMaker before and %s after", s.title, s.want))
		}
	}
	if err := table.Flush(); err != nil {
		return err
	}
	fmt.Println()
	return errors.Join(wrong, who(ctx, l, account))
}

// who lets the auditor's command answer from the trail that was just made.
func who(ctx context.Context, l *lab.Lab, a *lab.Account) error {
	trail := filepath.Join(l.Dir, "trail")
	if err := a.Flush(ctx, trail); err != nil {
		return err
	}
	out, err := l.Command(ctx, nil, l.Program("nbidentityd"), "who", "--action", "sts:GetCallerIdentity", trail).CombinedOutput()
	if err != nil {
		return fmt.Errorf("nbidentityd who: %w: %s", err, out)
	}
	fmt.Printf("Who made these calls, by nbidentityd who, from the trail alone:\n\n%s\n", out)
	return nil
}

// play makes the call, starts the daemon, and makes it again.
func (s story) play(ctx context.Context, l *lab.Lab, a *lab.Account) (before, after lab.Record, err error) {
	nb := s.notebook
	nb.UID = os.Getuid()
	nb.IMDS = a.IMDS["alice-nb"]
	if s.app != "" {
		nb.Container, nb.ContainerPath = a.Container, a.ContainerPaths[s.app]
	}
	n, err := l.NewNotebook(a, nb)
	if err != nil {
		return before, after, err
	}
	if before, err = whoami(ctx, l, a, n); err != nil {
		return before, after, err
	}
	daemon, err := n.StartDaemon(ctx)
	if err != nil {
		return before, after, err
	}
	if after, err = whoami(ctx, l, a, n); err != nil {
		return before, after, err
	}
	return before, after, daemon.Stop()
}

// whoami runs the client in the notebook's environment, which is the same
// before and after, and returns the record of its call.
func whoami(ctx context.Context, l *lab.Lab, a *lab.Account, n *lab.Notebook) (lab.Record, error) {
	seen, err := a.Records(ctx, 0)
	if err != nil {
		return lab.Record{}, err
	}
	env := []string{"HOME=" + n.Home, "AWS_REGION=" + a.Region, "AWS_ENDPOINT_URL=" + a.API}
	if n.Container != "" {
		env = append(env, "AWS_CONTAINER_CREDENTIALS_FULL_URI="+n.Container+n.ContainerPath)
	} else {
		env = append(env, "AWS_EC2_METADATA_SERVICE_ENDPOINT="+n.IMDS)
	}
	if out, err := l.Command(ctx, env, l.Program("whoami")).CombinedOutput(); err != nil {
		return lab.Record{}, fmt.Errorf("whoami: %w: %s", err, out)
	}
	records, err := a.Records(ctx, len(seen))
	if err != nil {
		return lab.Record{}, err
	}
	for _, r := range records {
		if r.EventName == "GetCallerIdentity" && r.ByClient() {
			return r, nil
		}
	}
	return lab.Record{}, errors.New("the call left no record")
}

func orNone(s string) string {
	if s == "" {
		return "(none)"
	}
	return s
}
