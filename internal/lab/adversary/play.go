package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/clients"
	"github.com/nbidentityd/nbidentityd/internal/lab/interop/stage"
)

const (
	instance = "instance" // the networks' names
	space    = "space"
)

func decode(data []byte, v any) error { return json.Unmarshal(data, v) }

// play runs on the stage, with everything laid out in dir.
func play(ctx context.Context, dir string) (err error) {
	started := time.Now()
	s := &siege{
		dir: dir, lab: &lab.Lab{Bin: filepath.Join(dir, "bin"), Dir: filepath.Join(dir, "lab")},
		name: "alice-nb", limit: attemptLimit,
	}
	defer func() { err = errors.Join(err, s.lab.Close()) }()
	if err := s.build(ctx); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{s.controls, s.begin, s.peace, s.home, s.links, s.crowd, s.stopped, s.killed, s.again, s.locked} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	escapes, err := s.studio(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("%d escapes possible in Studio's shape; %d attempts skipped; %d failures; %.1f s\n", escapes, s.skipped, s.failures, time.Since(started).Seconds())
	fmt.Printf("adversary: %d attempts, %d calls, %d unattributed, %d misattributed\n", s.attempts, s.total.calls(), s.total.none, s.total.wrong)
	if s.failures > 0 {
		return stage.ErrShown
	}
	return nil
}

// build makes the network, starts AWS and makes its names and certificates
// work.
func (s *siege) build(ctx context.Context) (err error) {
	err = stage.Build(ctx, s.lab.Dir,
		stage.Notebook{Name: instance, Platform: stage.IMDSAddress}, stage.Notebook{Name: space, Platform: stage.ContainerAddress})
	if err != nil {
		return err
	}
	if err := people(); err != nil {
		return err
	}
	err = commands(ctx,
		"ip -6 addr add fd00:9::1/64 dev "+instance+" nodad",
		"ip -6 addr add fd00:ec2::254/128 dev "+instance+" nodad",
		"ip -n "+instance+" -6 addr add fd00:9::2/64 dev eth0 nodad",
		"ip -n "+instance+" -6 route add fd00:ec2::254 dev eth0")
	if err != nil {
		return err
	}
	if err := container(ctx, box, "docker0", "172.17.0"); err != nil {
		fmt.Println("no container behind a bridge:", err)
		_ = commands(ctx, "ip netns del "+box) // it may not be there
	}
	scenario, err := s.scenario(ctx)
	if err != nil {
		return err
	}
	ca := filepath.Join(s.dir, "trust", "ca.pem")
	s.account, err = s.lab.StartAccount(ctx, "-scenario", scenario, "-allow-any", "-api", "", "-tls", stage.APIAddress+":443", "-ca-file", ca,
		"-imds", s.name+"="+stage.IMDSAddress+":80", "-imds", s.name+"=[fd00:ec2::254]:80", "-container", stage.ContainerAddress+":80")
	if err != nil {
		return err
	}
	s.trail = &trail{account: s.account}
	stores, err := clients.TrustStores()
	if err == nil {
		err = stage.Trust(ctx, filepath.Join(s.dir, "trust"), ca, stores)
	}
	if err != nil {
		return err
	}
	s.clients, err = clients.All(s.lab.Bin, ca)
	return err
}

// people gives names to the users' numbers, on the stage's /etc: sudo lets
// nobody without one do anything, and tells nothing of them.
func people() error {
	f, err := os.OpenFile("/etc/passwd", os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	for _, uid := range []int{userUID, otherUID} {
		if _, missing := user.LookupId(strconv.Itoa(uid)); missing != nil && err == nil {
			_, err = fmt.Fprintf(f, "notebook-%d:x:%[1]d:%[1]d::/nonexistent:/bin/sh\n", uid)
		}
	}
	return errors.Join(err, f.Close())
}

// container puts a namespace behind a bridge of the notebook instance, as
// Docker does, but for the kernel modules that a stage cannot load. net is the
// beginning of its addresses.
func container(ctx context.Context, name, bridge, net string) error {
	err := commands(ctx,
		"ip netns add "+name,
		"ip -n "+instance+" link add "+bridge+" type bridge",
		"ip -n "+instance+" addr add "+net+".1/16 dev "+bridge,
		"ip -n "+instance+" link set "+bridge+" up",
		"ip -n "+instance+" link add "+bridge+"-p type veth peer name eth0 netns "+name,
		"ip -n "+instance+" link set "+bridge+"-p master "+bridge+" up",
		"ip -n "+name+" link set lo up",
		"ip -n "+name+" addr add "+net+".2/16 dev eth0",
		"ip -n "+name+" link set eth0 up",
		"ip -n "+name+" route add default via "+net+".1",
		"nsenter --net=/run/netns/"+instance+" nft add table ip lab",
		"nsenter --net=/run/netns/"+instance+" nft add chain ip lab post { type nat hook postrouting priority 100 ; }",
		"nsenter --net=/run/netns/"+instance+" nft add rule ip lab post ip saddr "+net+".0/16 oifname eth0 masquerade")
	if err != nil {
		return err
	}
	forward := []string{"--net=/run/netns/" + instance, "sh", "-c", "echo 1 >/proc/sys/net/ipv4/ip_forward"}
	return exec.CommandContext(ctx, "nsenter", forward...).Run()
}

// scenario is fakeaws' own, but for a metadata service that also speaks v1.
func (s *siege) scenario(ctx context.Context) (path string, err error) {
	text, err := exec.CommandContext(ctx, s.lab.Program("fakeaws"), "-print-scenario").Output()
	if err != nil {
		return "", err
	}
	mark := []byte(`{"name": "` + s.name + `", "role": "AmazonSageMaker-ExecutionRole",`)
	if bytes.Count(text, mark) != 1 {
		return "", fmt.Errorf("fakeaws' scenario has no line %s", mark)
	}
	path = filepath.Join(s.lab.Dir, "scenario.json")
	return path, os.WriteFile(path, bytes.Replace(text, mark, append(mark, ` "minimum_imds_version": "1",`...), 1), 0o644)
}

// controls are calls before the daemon's start, which must show as nobody's:
// else the attempts would prove nothing. They are not counted.
func (s *siege) controls(ctx context.Context) (err error) {
	s.nb, err = s.lab.NewNotebook(s.account, lab.Notebook{Name: instance, UID: userUID, Unlocked: true, Enter: stage.Enter(instance), Metadata: lab.Metadata})
	if err != nil {
		return err
	}
	s.env = s.clientEnv()
	fmt.Println("before the daemon, each of these reaches AWS without a name (not counted):")
	for _, a := range []attempt{
		{name: "Go SDK", script: `$WHO`},
		{name: "IMDSv2, curl", script: `v2 $V4 | keys`},
		{name: "IMDSv1, curl", script: `v1 $V4 | keys`},
		{name: "IMDSv2 over IPv6, curl", script: `v2 $V6 | keys`},
		{name: "IMDSv1 over IPv6, curl", script: `v1 $V6 | keys`},
		{name: "IMDSv2, TCP socket (Go)", script: `$RAID ask $V4 plain | keys`},
		{name: "IMDSv2, MPTCP socket", script: `$RAID ask $V4 mptcp | keys`},
		{name: "IMDSv2, data in the first segment (TCP fast open)", script: `$RAID ask $V4 fastopen | keys`},
		{name: "IMDSv2, socket bound to eth0", script: `$RAID ask $V4 device | keys`},
		{name: "root of a user namespace, IMDSv2", script: `unshare -Ur $RAID ask $V4 plain | keys`},
		{name: "container behind a bridge, IMDSv2", script: `v2 $V4 | keys`, box: box},
		{name: "profile that claims bob-nb by credential_source, boto3", script: `alone '[default]' 'credential_source = Ec2InstanceMetadata' 'role_session_name = bob-nb' "role_arn = $ROLE"; $BOTO`},
	} {
		if lacks := s.lacks(a); lacks != "" {
			fmt.Printf("  %-62s skipped: %s\n", a.name, lacks)
			continue
		}
		cmd, err := s.make(ctx, a)
		if err != nil {
			return err
		}
		out, ended := cmd.CombinedOutput()
		calls, err := s.trail.calls(ctx)
		if err != nil {
			return err
		}
		t := judge(calls, s.name)
		fmt.Printf("  %-62s %-19s %s\n", a.name, t, lastLine(out, ended))
		if t.none == 0 {
			return fmt.Errorf("control %s: no unattributed call (%v): this set-up would not show one\n%s", a.name, ended, out)
		}
	}
	return nil
}

// begin opens connections, raises the fence and uses them.
func (s *siege) begin(ctx context.Context) error {
	fmt.Println("\nnotebook instance alice-nb: attempt, outcome, calls under the right name/none/a wrong one, last words")
	// Before the daemon is there, nobody can be in its place.
	if err := s.each(ctx, []attempt{
		{name: "before the daemon, squat 127.0.0.1:938", script: `$RAID bind 127.0.0.1:938`, want: refused},
		{name: "before the daemon, squat [::1]:938", script: `$RAID bind [::1]:938`, want: refused},
		{name: "before the daemon, squat 127.0.0.1:937", script: `$RAID bind 127.0.0.1:937`, want: refused},
		{name: "before the daemon, squat the socket", script: `$RAID bind $SOCK`, want: refused},
		{name: "before the daemon, squat the token file", script: `: >$TOKEN`, want: refused},
		{name: "before the daemon, write its state", script: `: >$STATE/discovery.json`, want: refused},
	}); err != nil {
		return err
	}
	before, err := s.connections(ctx)
	if err != nil {
		return err
	}
	old, err := s.user(ctx, userUID, nil, s.env, "sh", "-c", prelude+`token $V4 21600`).Output()
	if err != nil {
		return fmt.Errorf("the platform's own token: %w", err)
	}
	if err := s.raise(ctx); err != nil {
		return err
	}
	for _, k := range before {
		if err := k.release(); err != nil {
			return err
		}
		ended := k.cmd.Wait()
		if err := s.judge(ctx, k.attempt, k.out.Bytes(), ended); err != nil {
			return err
		}
	}
	replay, err := s.user(ctx, otherUID, nil, s.env, "sh", "-c", prelude+`token $FACE 21600`).Output()
	if err != nil {
		return fmt.Errorf("the other user's token: %w", err)
	}
	stolen, err := os.ReadFile(s.path(fmt.Sprintf("container-token-%d", otherUID)))
	if err != nil {
		return err
	}
	s.env = append(s.env, "OLDTOKEN="+string(old), "REPLAY="+string(replay), "STOLEN="+string(stolen))
	return s.assured(ctx, "enforced", true)
}

// kept is an attempt that has its connection open, and makes its call when it is
// released.
type kept struct {
	attempt
	cmd     *exec.Cmd
	out     bytes.Buffer
	release func() error
}

// connections opens some to the platform that are older than the fence.
func (s *siege) connections(ctx context.Context) (all []*kept, err error) {
	for _, base := range []string{"$V4", "$V6"} {
		k := &kept{attempt: attempt{name: "connection from before the fence, " + base[1:], want: refused,
			script: `$RAID keep ` + base + ` 2>$HOME/said | keys; r=$?; tail -n 1 $HOME/said; exit $r`}}
		s.attempts++ // a home of its own
		k.cmd, err = s.make(ctx, k.attempt)
		s.attempts--
		if err != nil {
			return nil, err
		}
		k.cmd.Stdout, k.cmd.Stderr = &k.out, &k.out
		in, err := k.cmd.StdinPipe()
		if err != nil {
			return nil, err
		}
		k.release = in.Close
		if err := k.cmd.Start(); err != nil {
			return nil, err
		}
		said := filepath.Join(home(k.cmd), "said")
		if err := s.account.Await(ctx, "old connection", func() bool {
			data, _ := os.ReadFile(said) // not there yet
			return bytes.Contains(data, []byte("open"))
		}); err != nil {
			return nil, err
		}
		all = append(all, k)
	}
	return all, nil
}

// home is an attempt's.
func home(cmd *exec.Cmd) string {
	var found string
	for _, line := range cmd.Env {
		if value, ok := strings.CutPrefix(line, "HOME="); ok {
			found = value // the last one counts
		}
	}
	return found
}

// assured compares the level that the daemon claims.
func (s *siege) assured(ctx context.Context, level string, want bool) error {
	r, err := s.status(ctx)
	if err != nil {
		return err
	}
	fmt.Printf("  nbidentity status: assurance %s\n", r.Assurance.Level)
	if (r.Assurance.Level == level) != want {
		s.fail(nil, "assurance is %q: %+v", r.Assurance.Level, r.Assurance.Reasons)
	}
	return nil
}

// peace is while the daemon runs undisturbed.
func (s *siege) peace(ctx context.Context) error {
	s.env = append(s.env, fmt.Sprintf("DAEMON=%d", s.daemon.PID()))
	if s.exists("/run/netns/" + box) {
		if err := container(ctx, lateBox, "br-late", "172.18.0"); err != nil {
			return err
		}
	}
	if err := s.each(ctx, openly()); err != nil {
		return err
	}
	var all []attempt
	for _, c := range s.clients {
		all = append(all, s.client(c, "credential_process is /bin/false", `sed -i 's|^credential_process.*|credential_process = /bin/false|' ~/.aws/config; `, either))
	}
	if err := s.each(ctx, all); err != nil {
		return err
	}
	if err := s.counted(ctx); err != nil {
		return err
	}
	return s.assured(ctx, "enforced", true)
}

// counted waits for the daemon's metrics to tell of what met the fence. A change
// of the packet rules makes it look at once.
func (s *siege) counted(ctx context.Context) error {
	verdicts := []string{"redirected", "refused"}
	if s.exists("/run/netns/" + box) {
		verdicts = append(verdicts, "container_redirected", "container_refused")
	}
	if err := commands(ctx, "nsenter --net=/run/netns/"+instance+" nft add table ip looked"); err != nil {
		return err
	}
	var all map[string]float64
	err := s.daemon.Await(ctx, "counts of the fence", func() bool {
		all, _ = s.nb.Metrics(ctx) // asked again
		return !slices.ContainsFunc(verdicts, func(v string) bool { return all[packets(v)] == 0 })
	})
	for _, v := range verdicts {
		fmt.Printf("  %s %v\n", packets(v), all[packets(v)])
	}
	return err
}

func packets(verdict string) string {
	return fmt.Sprintf("nbidentityd_fence_packets_total{verdict=%q}", verdict)
}

func (s *siege) each(ctx context.Context, all []attempt) error {
	for _, a := range all {
		if err := s.try(ctx, a); err != nil {
			return err
		}
	}
	return nil
}

// client is an attempt with a real client, after a line of preparation.
func (s *siege) client(c clients.Client, when, prepare string, w want) attempt {
	var line strings.Builder
	for _, word := range append(append([]string{"env"}, c.Env...), c.Args...) {
		line.WriteString("'" + strings.ReplaceAll(word, "'", `'\''`) + "' ")
	}
	a := attempt{name: when + ", " + c.Name, script: prepare + line.String(), want: w}
	for variable, name := range scriptClients {
		if name == c.Name {
			a.script += " # " + variable // skipped with it
		}
	}
	return a
}

// home plays in the home that the daemon attends, and mends it after each.
func (s *siege) home(ctx context.Context) error {
	for _, a := range atHome() {
		if err := s.try(ctx, a); err != nil {
			return err
		}
		if err := s.mend(ctx); err != nil {
			return err
		}
	}
	return nil
}

// mend puts the home right by hand. What the daemon has locked stays.
func (s *siege) mend(ctx context.Context) error {
	entries, err := os.ReadDir(s.nb.Home)
	if err != nil {
		return err
	}
	for _, e := range entries {
		_ = os.RemoveAll(filepath.Join(s.nb.Home, e.Name())) // locked: it is in order
	}
	return s.install(ctx)
}

func (s *siege) install(ctx context.Context) error {
	cmd := s.nb.Command(ctx, nil, s.lab.Program("nbidentityd"), "install", "-settings", s.path("siege.toml"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("install: %w\n%s", err, out)
	}
	return nil
}

// links lets root write while the user swaps links and names under it.
func (s *siege) links(ctx context.Context) error {
	outside := s.path("outside")
	victim := filepath.Join(outside, "config")
	own := filepath.Join(s.nb.Home, "own")
	err := errors.Join(os.MkdirAll(outside, 0o755), os.WriteFile(victim, []byte("root's\n"), 0o600),
		os.WriteFile(own, []byte("the user's\n"), 0o600), os.Lchown(own, userUID, userUID))
	if err != nil {
		return err
	}
	cmd := s.user(ctx, userUID, nil, nil, s.lab.Program("adversary"), "-raid", "swap", s.nb.Home, outside)
	if err := cmd.Start(); err != nil {
		return err
	}
	wrote, gaveUp := 0, 0
	for until := time.Now().Add(10 * time.Second); time.Now().Before(until); {
		if s.install(ctx) == nil {
			wrote++
		} else {
			gaveUp++
		}
	}
	_ = unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	_ = cmd.Wait() // killed
	a := attempt{name: "links and renames under root's writing, 10 s", want: either}
	if err := s.judge(ctx, a, fmt.Appendf(nil, "root wrote %d times, gave up %d times", wrote, gaveUp), nil); err != nil {
		return err
	}
	info, err := os.Lstat(victim)
	if err != nil {
		return err
	}
	text, err := os.ReadFile(victim)
	if err != nil {
		return err
	}
	var st unix.Stat_t
	if err := unix.Lstat(victim, &st); err != nil {
		return err
	}
	mine, err := os.ReadFile(own)
	if err != nil {
		return err
	}
	entries, err := os.ReadDir(outside)
	if err != nil {
		return err
	}
	if string(text) != "root's\n" || info.Mode() != 0o600 || st.Uid != 0 || len(entries) != 1 || string(mine) != "the user's\n" {
		s.fail(text, "a file outside ~/.aws was touched: %s %s uid %d, %d files", victim, info.Mode(), st.Uid, len(entries))
	}
	return s.mend(ctx)
}
