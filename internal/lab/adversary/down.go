package main

import (
	"context"
	"errors"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// stopped is while the daemon hangs. Clients may hang with it: nothing else.
func (s *siege) stopped(ctx context.Context) error {
	if err := unix.Kill(s.daemon.PID(), unix.SIGSTOP); err != nil {
		return err
	}
	s.limit = 15 * time.Second
	all := []attempt{
		{name: "daemon stopped, IMDSv2, curl", script: `v2 $V4 | keys`, want: refused},
		{name: "daemon stopped, IMDSv1, curl", script: `v1 $V4 | keys`, want: refused},
		{name: "daemon stopped, IMDSv2 over IPv6, curl", script: `v2 $V6 | keys`, want: refused},
		{name: "daemon stopped, nbidentity by hand", script: `$NB --socket $SOCK credentials | keys`, want: refused},
		{name: "daemon stopped, no config, Go SDK", script: `env $NOBODY $WHO`, want: refused},
	}
	for _, c := range s.clients {
		if c.Quick {
			all = append(all, s.client(c, "daemon stopped", "", refused))
		}
	}
	err := s.each(ctx, all)
	s.limit = attemptLimit
	if err := errors.Join(err, unix.Kill(s.daemon.PID(), unix.SIGCONT)); err != nil {
		return err
	}
	// What a client asked for before it was killed may still be answered.
	lab.Wait(ctx, time.Second)
	return s.try(ctx, attempt{name: "daemon continued, Go SDK", script: `$WHO`, want: named})
}

// killed is after the daemon's sudden end: the fence must stand without it.
func (s *siege) killed(ctx context.Context) error {
	if err := unix.Kill(s.daemon.PID(), unix.SIGKILL); err != nil {
		return err
	}
	if err := s.daemon.Stop(); err != nil { // waits
		return err
	}
	all := []attempt{
		{name: "daemon killed, IMDSv2, curl", script: `v2 $V4 | keys`, want: refused},
		{name: "daemon killed, IMDSv1, curl", script: `v1 $V4 | keys`, want: refused},
		{name: "daemon killed, IMDSv2 over IPv6, curl", script: `v2 $V6 | keys`, want: refused},
		{name: "daemon killed, root of a user namespace", script: `unshare -Ur $RAID ask $V4 plain | keys`, want: refused},
		{name: "daemon killed, container behind a bridge", script: `v2 $V4 | keys`, want: refused, box: box},
		{name: "daemon killed, nbidentity by hand", script: `$NB --socket $SOCK credentials | keys`, want: refused},
		{name: "daemon killed, squat 127.0.0.1:938", script: `$RAID bind 127.0.0.1:938`, want: refused},
		{name: "daemon killed, squat [::1]:938", script: `$RAID bind [::1]:938`, want: refused},
		{name: "daemon killed, squat 127.0.0.1:937", script: `$RAID bind 127.0.0.1:937`, want: refused},
		{name: "daemon killed, squat the socket", script: `rm -f $SOCK; $RAID bind $SOCK`, want: refused},
		{name: "daemon killed, no config, Go SDK", script: `env $NOBODY $WHO`, want: refused},
		{name: "daemon killed, no config, boto3", script: `env $NOBODY $BOTO`, want: refused},
		{name: "daemon killed, profile that claims bob-nb, boto3", want: refused,
			script: `alone '[default]' 'credential_source = Ec2InstanceMetadata' 'role_session_name = bob-nb' "role_arn = $ROLE"; $BOTO`},
	}
	for _, c := range s.clients {
		all = append(all, s.client(c, "daemon killed", "", refused))
	}
	return s.each(ctx, all)
}

// again is after the daemon's return.
func (s *siege) again(ctx context.Context) error {
	if err := s.raise(ctx); err != nil {
		return err
	}
	for _, a := range []attempt{
		{name: "daemon back, Go SDK", script: `$WHO`, want: named},
		{name: "daemon back, IMDSv2, curl", script: `v2 $V4 | keys`, want: named},
		{name: "daemon back, token of its former life", script: `get -H "$T: $REPLAY" $FACE$R`, want: refused},
		{name: "daemon back, other's token of its former life", script: `get -H "Authorization: $STOLEN" $BOX | keys`, want: refused},
	} {
		if err := s.try(ctx, a); err != nil {
			return err
		}
	}
	return s.assured(ctx, "enforced", true)
}
