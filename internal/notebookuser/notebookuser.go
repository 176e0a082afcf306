// Package notebookuser says who the notebook's users are: whose processes may ask
// for credentials, and whose ~/.aws/config is written.
package notebookuser

import (
	"errors"
	"fmt"
	"os/user"
	"strconv"

	"github.com/nbidentityd/nbidentityd/internal/settings"
)

// User is an account of this machine that runs notebooks.
type User struct {
	Name     string
	UID, GID int
	Groups   []uint32 // all of them, the primary one too
	Home     string
}

// platformUsers are the accounts that SageMaker's own images run notebooks as.
var platformUsers = []string{"ec2-user", "sagemaker-user"}

// Find looks the settings' users up. With none set, those of the
// platform's that exist on this machine are meant.
func Find(want []settings.User) ([]User, error) {
	if len(want) == 0 {
		var found []User
		for _, name := range platformUsers {
			if u, err := Lookup(settings.User{Name: name}); err == nil {
				found = append(found, u)
			}
		}
		if len(found) == 0 {
			return nil, fmt.Errorf("none of the users %v exists here: name the notebook's user in the settings ([[user]] name = …)", platformUsers)
		}
		return found, nil
	}
	var all []User
	for _, w := range want {
		u, err := Lookup(w)
		if err != nil {
			return nil, err
		}
		all = append(all, u)
	}
	return all, nil
}

// Lookup takes a name or, as chown does, a number.
func Lookup(want settings.User) (User, error) {
	u, err := user.Lookup(want.Name)
	if unknown := user.UnknownUserError(""); errors.As(err, &unknown) {
		u, err = user.LookupId(want.Name)
	}
	if err != nil {
		uid, notNumber := strconv.ParseUint(want.Name, 10, 32)
		if notNumber != nil || want.Home == "" {
			return User{}, fmt.Errorf("user %q does not exist on this machine", want.Name)
		}
		return User{Name: want.Name, UID: int(uid), GID: int(uid), Groups: []uint32{uint32(uid)}, Home: want.Home}, nil
	}
	uid, err := strconv.Atoi(u.Uid)
	if err != nil {
		return User{}, fmt.Errorf("user %q: uid %q: %w", want.Name, u.Uid, err)
	}
	gid, err := strconv.Atoi(u.Gid)
	if err != nil {
		return User{}, fmt.Errorf("user %q: gid %q: %w", want.Name, u.Gid, err)
	}
	found := User{Name: u.Username, UID: uid, GID: gid, Home: u.HomeDir}
	ids, err := u.GroupIds()
	if err != nil {
		return User{}, fmt.Errorf("user %q: %w", want.Name, err)
	}
	for _, id := range ids {
		n, err := strconv.ParseUint(id, 10, 32)
		if err != nil {
			return User{}, fmt.Errorf("user %q: group %q: %w", want.Name, id, err)
		}
		found.Groups = append(found.Groups, uint32(n))
	}
	if want.Home != "" {
		found.Home = want.Home
	}
	return found, nil
}
