package main

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// notebookUser may ask for credentials and has a ~/.aws/config to write.
type notebookUser struct {
	name     string
	uid, gid int
	groups   []uint32 // all of them
	home     string
}

// platformUsers are the accounts that SageMaker's own images run notebooks as.
var platformUsers = []string{"ec2-user", "sagemaker-user"}

// notebookUsers looks the settings' users up. With none set, those of the
// platform's that exist on this machine are meant.
func notebookUsers(want []settings.User) ([]notebookUser, error) {
	if len(want) == 0 {
		var found []notebookUser
		for _, name := range platformUsers {
			if u, err := lookUp(settings.User{Name: name}); err == nil {
				found = append(found, u)
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("none of the users %v exists here: name the notebook's user in the settings ([[user]] name = …)", platformUsers)
		}
		return found, nil
	}
	var all []notebookUser
	for _, w := range want {
		u, err := lookUp(w)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// lookUp takes a name or, as chown does, a number.
func lookUp(want settings.User) (notebookUser, error) {
	u, err := user.Lookup(want.Name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		u, err = user.LookupId(want.Name)
	}
	if err != nil {
		uid, notNumber := strconv.ParseUint(want.Name, 10, 32)
		if notNumber != nil || want.Home == "" {
			return notebookUser{}, fmt.Errorf("user %q does not exist on this machine", want.Name)
		}
		return notebookUser{name: want.Name, uid: int(uid), gid: int(uid), groups: []uint32{uint32(uid)}, home: want.Home}, nil
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return notebookUser{}, fmt.Errorf("user %q: uid %q: %w", want.Name, u.Uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return notebookUser{}, fmt.Errorf("user %q: gid %q: %w", want.Name, u.Gid, err)
	}
	found := notebookUser{name: u.Username, uid: uid, gid: gid, home: u.HomeDir}
	ids, err := u.GroupIds()
	if err != nil {
		return notebookUser{}, fmt.Errorf("user %q: %w", want.Name, err)
	}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return notebookUser{}, fmt.Errorf("user %q: group %q: %w", want.Name, id, err)
		}
		found.groups = append(found.groups, uint32(n))
	}
	if want.Home != "" {
		found.home = want.Home
	}
	return found, nil
}
