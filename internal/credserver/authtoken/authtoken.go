// Package authtoken makes the secrets that the container-credentials face asks
// for, and the files from which SDKs read them
// (AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE).
//
// Each user has a token of its own, so that whoever presents one is named by
// it, and each start of the daemon makes new ones. A file belongs to its user,
// nobody else can read it, and it is replaced as a whole: a reader never sees
// half a token. It ends without a newline, which botocore and the SDKs for Go,
// JavaScript and Rust refuse.
//
// The directory must be one in which no other user can create or rename
// anything; with that, no link or file prepared by a user is ever followed. The
// package does not guarantee that a user keeps the token: root and the user
// itself can read it, and the user can spoil its own file.
package authtoken

import (
	"crypto/rand"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
)

// Tokens holds one token for each of some users.
type Tokens struct {
	users []user
}

type user struct {
	uid   uint32
	token string
}

const tokenSize = 32 // random bytes

// New makes a token for each uid.
func New(uids ...uint32) *Tokens {
	t := &Tokens{}
	for _, uid := range uids {
		raw := make([]byte, tokenSize)
		rand.Read(raw) // never fails: the runtime stops the program instead
		t.users = append(t.users, user{uid, base64.RawURLEncoding.EncodeToString(raw)})
	}
	return t
}

// Owner returns whose token the value of an Authorization header is. It takes
// the same time for every value of the right length.
func (t *Tokens) Owner(authorization string) (uid uint32, ok bool) {
	given := []byte(authorization)
	for _, u := range t.users {
		if subtle.ConstantTimeCompare(given, []byte(u.token)) == 1 {
			uid, ok = u.uid, true
		}
	}
	return uid, ok
}

// Path returns the file of uid's token in dir.
func Path(dir string, uid uint32) string { return filepath.Join(dir, name(uid)) }

func name(uid uint32) string { return "container-token-" + strconv.FormatUint(uint64(uid), 10) }

// Write replaces the file of every user in dir. It goes on after an error, and
// returns all of them. To give a file to another user the process needs to be
// root or have CAP_CHOWN.
func (t *Tokens) Write(dir string) error {
	root, err := open(dir)
	if err != nil {
		return fmt.Errorf("writing container tokens: %w", err)
	}
	defer root.Close()
	var errs []error
	for _, u := range t.users {
		if err := write(root, u); err != nil {
			errs = append(errs, fmt.Errorf("writing the container token of uid %d to %s: %w", u.uid, Path(dir, u.uid), err))
		}
	}
	return errors.Join(errs...)
}

// Remove removes the files that Write has made.
func (t *Tokens) Remove(dir string) error {
	root, err := open(dir)
	if err != nil {
		return fmt.Errorf("removing container tokens: %w", err)
	}
	defer root.Close()
	var errs []error
	for _, u := range t.users {
		if err := root.Remove(name(u.uid)); err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, fmt.Errorf("removing container tokens: %w", err))
		}
	}
	return errors.Join(errs...)
}

// open refuses a directory in which another user could change names.
func open(dir string) (*os.Root, error) {
	root, err := os.OpenRoot(dir)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil {
		st := info.Sys().(*syscall.Stat_t)
		switch {
		case st.Uid != 0 && st.Uid != uint32(os.Geteuid()):
			err = fmt.Errorf("directory %s belongs to uid %d: it must belong to root or to the daemon's uid", dir, st.Uid)
		case st.Mode&0o022 != 0:
			err = fmt.Errorf("directory %s is writable by others (mode %04o): chmod go-w it", dir, st.Mode&0o7777)
		}
	}
	if err != nil {
		return nil, errors.Join(err, root.Close())
	}
	return root, nil
}

func write(root *os.Root, u user) error {
	temp := name(u.uid) + ".new"
	if err := root.Remove(temp); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err // what a start that died left behind
	}
	f, err := root.OpenFile(temp, os.O_WRONLY|os.O_CREATE|os.O_EXCL, 0o600)
	if err != nil {
		return err
	}
	_, err = f.WriteString(u.token)
	if err == nil {
		err = f.Chmod(0o600) // the umask may have taken more
	}
	if err == nil && u.uid != uint32(os.Geteuid()) {
		err = f.Chown(int(u.uid), -1) // last: from here on the user can open it
	}
	err = errors.Join(err, f.Close())
	if err == nil {
		err = root.Rename(temp, name(u.uid))
	}
	if err != nil {
		return errors.Join(err, root.Remove(temp))
	}
	return nil
}
