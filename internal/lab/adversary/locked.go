package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
)

// locked is the same notebook with the lock on ~/.aws that the siege has done
// without until now: the attempts at home want one that can be changed.
func (s *siege) locked(ctx context.Context) error {
	fmt.Println("\nthe same notebook, with ~/.aws locked")
	if err := s.daemon.Stop(); err != nil {
		return err
	}
	s.nb.Unlocked = false
	if err := s.raise(ctx); err != nil {
		return err
	}
	why, err := s.unlocked(ctx)
	if err != nil {
		return err
	}
	if why != "" {
		s.skipped++
		fmt.Printf("  %-62s skipped: %s\n", "attempts against the lock", why)
		if os.Getenv("CI") == "true" {
			s.fail(nil, "attempts against the lock: skipped in CI")
		}
		return nil
	}
	config := filepath.Join(s.nb.Home, ".aws", "config")
	before, err := os.ReadFile(config)
	if err != nil {
		return err
	}
	if err := s.each(ctx, againstLock()); err != nil {
		return err
	}
	after, err := os.ReadFile(config)
	if err != nil || string(after) != string(before) {
		s.fail(after, "the locked %s has changed: %v", config, err)
	}
	if err := s.each(ctx, withLock()); err != nil {
		return err
	}
	if why, err = s.unlocked(ctx); err != nil || why != "" {
		s.fail(nil, "~/.aws is no longer locked: %s %v", why, err)
	}
	if err := s.assured(ctx, "enforced", true); err != nil {
		return err
	}
	return s.release(ctx)
}

// unlocked says why the user's configuration is not immutable, or "".
func (s *siege) unlocked(ctx context.Context) (string, error) {
	r, err := s.status(ctx)
	if err != nil {
		return "", err
	}
	for _, f := range r.ConfigFiles {
		if filepath.Dir(filepath.Dir(f.Path)) == s.nb.Home {
			if f.Immutable {
				return "", nil
			}
			return "status: " + f.Unlocked + f.Problem, nil
		}
	}
	return "", errors.New("the status does not show the user's configuration")
}

// release lets uninstall take everything back, and the user remove their home.
func (s *siege) release(ctx context.Context) error {
	cmd := s.nb.Command(ctx, nil, s.lab.Program("nbidentityd"), "uninstall", "-settings", s.path("siege.toml"))
	if out, err := cmd.CombinedOutput(); err != nil {
		s.fail(out, "uninstall: %v", err)
		return nil
	}
	out, err := s.user(ctx, userUID, nil, nil, "sh", "-c", "rm -rf "+s.nb.Home+"/.aws && test ! -e "+s.nb.Home+"/.aws").CombinedOutput()
	if err != nil {
		s.fail(out, "after uninstall the user cannot remove ~/.aws: %v", err)
	}
	return nil
}

// againstLock must change nothing.
func againstLock() []attempt {
	const mine = `echo '[default]' >~/mine; `
	all := []attempt{
		{name: "write in place", script: `echo '[default]' >~/.aws/config`},
		{name: "append", script: `echo 'role_arn = x' >>~/.aws/config`},
		{name: "truncate", script: `truncate -s 0 ~/.aws/config`},
		{name: "mmap", script: `/usr/bin/python3 -c 'import mmap, os
f = open(os.path.expanduser("~/.aws/config"), "r+b")
m = mmap.mmap(f.fileno(), 0)
m[:] = b"#" * len(m)'`},
		{name: "rm", script: `rm -f ~/.aws/config`},
		{name: "rename over the file", script: mine + `mv -f ~/mine ~/.aws/config`},
		{name: "rename the file away", script: `mv ~/.aws/config ~/.aws/old`},
		{name: "mv ~/.aws", script: `mv ~/.aws ~/.gone`},
		{name: "rm -r ~/.aws", script: `rm -rf ~/.aws`},
		{name: "rename a directory over ~/.aws", script: `mkdir -p ~/empty; mv -T ~/empty ~/.aws`},
		{name: "exchange ~/.aws with another directory", script: `mkdir -p ~/empty; /usr/bin/python3 -c 'import ctypes, os, sys
libc = ctypes.CDLL(None, use_errno=True)
home = os.path.expanduser("~").encode()
sys.exit(libc.renameat2(-100, home + b"/empty", -100, home + b"/.aws", 2) != 0)'`},
		{name: "hard link to the file", script: `ln ~/.aws/config ~/hard`},
		{name: "symbolic link over the file", script: `ln -sf /dev/null ~/.aws/config`},
		{name: "new name in ~/.aws", script: `: >~/.aws/new`},
		{name: "chmod", script: `chmod 666 ~/.aws/config`},
		{name: "touch", script: `touch ~/.aws/config`},
		{name: "open by /proc/self/fd", script: `exec 3<~/.aws/config; echo x >/proc/self/fd/3`},
		{name: "chattr -i", script: `chattr -i ~/.aws/config || chattr -i ~/.aws`},
		{name: "chattr -i as root of a user namespace", script: `unshare -Ur chattr -i ~/.aws/config || unshare -Ur chattr -i ~/.aws`},
		{name: "chattr -i as the owner in a user namespace", script: `unshare -U --map-current-user chattr -i ~/.aws`},
		{name: "mv of the home", script: `mv ~ ~.gone`},
		{name: "aws configure", script: `$CLI configure set role_arn x`},
	}
	for i := range all {
		all[i].name, all[i].want, all[i].own = "locked, "+all[i].name, refused, true
	}
	return append(all,
		attempt{name: "locked, mounted over in a user namespace, Go SDK", own: true, script: mine + `unshare -Urm sh -c "mount --bind ~/mine ~/.aws/config && $WHO"`},
		attempt{name: "locked, every quick client", own: true, want: named, script: `$BOTO && $WHO && $NODE`})
}

// withLock is what a user may do all the same.
func withLock() []attempt {
	all := []attempt{
		{name: "profile added through the daemon, Go SDK", want: named,
			script: `$NB --socket $SOCK profile add west region=us-west-2 && $CLI configure get region --profile west | grep -q us-west-2 && AWS_PROFILE=west $WHO`},
		{name: "profile through the daemon whose CLI cache is in ~/.aws", want: named,
			script: `$NB --socket $SOCK profile add again "role_arn=$ROLE" role_session_name=alice-nb source_profile=default && AWS_PROFILE=again $CLI sts get-caller-identity && ls ~/.aws/cli/cache/*.json`},
		{name: "profile through the daemon that claims bob-nb, boto3",
			script: `$NB --socket $SOCK profile add bob "role_arn=$ROLE" role_session_name=bob-nb source_profile=default && AWS_PROFILE=bob $BOTO`},
		{name: "[default] through the daemon", want: refused, script: `$NB --socket $SOCK profile add default region=us-west-2`},
		{name: "profile through the daemon with a second section in it", want: refused,
			script: `$NB --socket $SOCK profile add x "region=us-west-2
[default]
role_arn=$ROLE"`},
		{name: "SSO token cached by botocore", script: `set -- $BOTO; "$1" -c 'import os
from botocore.utils import JSONFileCache
c = JSONFileCache(os.path.expanduser("~/.aws/sso/cache"))
c["k"] = {"accessToken": "x"}
assert c["k"]["accessToken"] == "x"' && $BOTO`, want: named},
		{name: "keys of another profile by aws configure", want: named,
			script: `$CLI configure set aws_access_key_id AKIAIOSFODNN7EXAMPLE --profile mine && grep -q AKIAIOSFODNN7EXAMPLE ~/.aws/credentials && $WHO`},
	}
	for i := range all {
		all[i].name, all[i].own = "locked, "+all[i].name, true
	}
	return all
}
