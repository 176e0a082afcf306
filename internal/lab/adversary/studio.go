package main

import (
	"context"
	"fmt"
	"os"
	"os/user"
	"strconv"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

// studio is where nothing can be fenced, and the user may become root. Each
// escape is tried, to show that it is possible; what must hold is that the
// daemon does not claim otherwise.
func (s *siege) studio(ctx context.Context) (escapes int, err error) {
	fmt.Println("\nStudio, private space of alice: escapes (not counted)")
	t := *s
	t.name = "alice"
	path := "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=" + s.account.ContainerPaths["alice-lab"]
	t.nb, err = s.lab.NewNotebook(s.account, lab.Notebook{Name: space, UID: userUID, Enter: stage.Enter(space), Env: []string{path}, Metadata: `{
		"AppType": "JupyterLab", "DomainId": "d-exampledomain", "SpaceName": "alice-space", "ResourceName": "default",
		"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:app/d-exampledomain/alice-space/JupyterLab/default"}`})
	if err != nil {
		return 0, err
	}
	t.env = t.clientEnv()
	defer func() { s.failures = t.failures }()
	if err := t.raise(ctx); err != nil {
		return 0, err
	}
	if escapes, err = t.escapes(ctx, asUser()); err != nil {
		return escapes, err
	}
	if escapes == 0 {
		t.fail(nil, "no escape was found in Studio's shape: this set-up would not show one")
	}
	if err := t.assured(ctx, "enforced", false); err != nil {
		return escapes, err
	}
	asRoot, err := t.asRoot(ctx)
	return escapes + asRoot, err
}

// asUser are escapes for which nobody need be root.
func asUser() []attempt {
	return []attempt{
		{name: "nothing special, Go SDK", script: `$WHO`},
		{name: "Studio's container address, curl", script: `get http://169.254.170.2$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI | keys`},
		{name: "AWS_CONFIG_FILE=/dev/null, Go SDK", script: `env $NOBODY $WHO`},
		{name: "AWS_CONFIG_FILE=/dev/null, boto3", script: `env $NOBODY $BOTO`},
		{name: "AWS_CONFIG_FILE=/dev/null, JavaScript SDK", script: `env $NOBODY $NODE`},
		{name: "HOME elsewhere, boto3", script: `HOME=/nonexistent $BOTO`},
		{name: "AWS_PROFILE=other, boto3", script: `profile '[profile other]' 'region = us-east-1'; AWS_PROFILE=other $BOTO`},
		{name: "profile that claims bob by credential_source, boto3", script: `alone '[default]' 'credential_source = EcsContainer' 'role_session_name = bob' "role_arn = $ROLE"; $BOTO`},
	}
}

// asRoot lets the user of the space become root by sudo, as in Studio's images,
// and shows what that adds. The last attempts leave no daemon behind.
func (s *siege) asRoot(ctx context.Context) (escapes int, err error) {
	if lacks := s.lacks(attempt{script: "sudo "}); lacks != "" {
		s.skipped++
		fmt.Printf("  %-62s skipped: %s\n", "root by sudo", lacks)
		if os.Getenv("CI") == "true" {
			s.fail(nil, "root by sudo: skipped in CI")
		}
		return 0, nil
	}
	u, err := user.LookupId(strconv.Itoa(userUID))
	if err != nil {
		return 0, err
	}
	// On the stage's /etc, which goes with it.
	if err := os.WriteFile("/etc/sudoers.d/nbidentityd-lab", []byte(u.Username+" ALL=(ALL) NOPASSWD: ALL\n"), 0o440); err != nil {
		return 0, err
	}
	if err := s.daemon.Stop(); err != nil {
		return 0, err
	}
	if err := s.raise(ctx); err != nil {
		return 0, err
	}
	if err := s.assured(ctx, "enforced", false); err != nil {
		return 0, err
	}
	r, err := s.status(ctx)
	if err != nil {
		return 0, err
	}
	if said := fmt.Sprint(r.Assurance.Reasons); !strings.Contains(said, "may become root by sudo") {
		s.fail(nil, "the reasons do not tell of sudo: %s", said)
	}
	s.env = append(s.env, fmt.Sprintf("DAEMON=%d", s.daemon.PID()))
	return s.escapes(ctx, []attempt{
		{name: "root by sudo, the daemon's memory", script: `sudo -n head -c 16 /proc/$DAEMON/environ >/dev/null && sudo -n ls /proc/$DAEMON/fd && false`},
		{name: "root by sudo, credential_process over-mounted, JavaScript SDK", script: `sudo -n unshare -m sh -c "mount --bind /bin/false $NB; exec setpriv --reuid=1000 --regid=1000 --clear-groups env HOME=$HOME AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI NODE_EXTRA_CA_CERTS=$NODE_EXTRA_CA_CERTS $NODE"`},
		{name: "root by sudo, daemon stopped, boto3 without its configuration", script: `sudo -n kill -STOP $DAEMON; env $NOBODY $BOTO; sudo -n kill -CONT $DAEMON`},
		{name: "root by sudo, daemon killed, boto3", script: `sudo -n kill -KILL $DAEMON; $BOTO`},
		{name: "root by sudo, daemon killed, JavaScript SDK", script: `$NODE`},
		{name: "root by sudo, a daemon of one's own that claims bob, Go SDK", script: `
sed "s|^metadata_file.*|metadata_file = \"$HOME/mine.json\"|" $SETTINGS >$HOME/mine.toml
echo '{"AppType": "KernelGateway", "DomainId": "d-exampledomain", "UserProfileName": "bob", "ResourceName": "x",
"ResourceArn": "arn:aws:sagemaker:us-east-1:111122223333:app/d-exampledomain/bob/KernelGateway/x"}' >$HOME/mine.json
sudo -n env "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI=$AWS_CONTAINER_CREDENTIALS_RELATIVE_URI" $DAEMONBIN run -settings $HOME/mine.toml >$HOME/said 2>&1 &
for i in 1 2 3 4 5; do sleep 0.5; $NB --socket $SOCK credentials >/dev/null 2>&1 && break; done
$WHO; r=$?; sudo -n kill -TERM $!; tail -n 1 $HOME/said; exit $r`},
	})
}

// escapes counts the attempts that bring calls without the name or with
// another's.
func (s *siege) escapes(ctx context.Context, all []attempt) (escapes int, err error) {
	for _, a := range all {
		s.attempts++ // a home of its own
		if lacks := s.lacks(a); lacks != "" {
			fmt.Printf("  %-62s skipped: %s\n", a.name, lacks)
			continue
		}
		cmd, err := s.make(ctx, a)
		if err != nil {
			return escapes, err
		}
		out, ended := cmd.CombinedOutput()
		calls, err := s.trail.calls(ctx)
		if err != nil {
			return escapes, err
		}
		v, found := judge(calls, s.name), "not found"
		if v.none+v.wrong > 0 {
			found = "possible"
			escapes++
		}
		fmt.Printf("  %-62s %-12s %-6s %s\n", a.name, found, v, lastLine(out, ended))
	}
	return escapes, nil
}
