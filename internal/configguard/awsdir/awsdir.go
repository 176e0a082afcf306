// Package awsdir is what ~/.aws holds besides the text of its files: their names,
// and what must be there before the directory is locked, since nobody can make a
// new name in it afterwards.
package awsdir

import (
	"errors"
	"path"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/awsconfig"
	"github.com/nbidentityd/nbidentityd/internal/safefile"
)

// The names in the home and in the directory.
const (
	Name        = ".aws"
	Config      = "config"
	Credentials = "credentials"
)

// caches are the directories in ~/.aws that AWS clients, the Toolkit and Studio
// write into.
var caches = []string{"cli/cache", "sso/cache", "boto/cache", "login/cache", "models", "amazonq", "amazon_q", "enabled_features"}

// Missing lists, parents first, what of the caches is not there, and the
// credentials file if it is not. dir may be nil.
func Missing(dir *safefile.Dir) []string {
	var paths []string
	for _, cache := range caches {
		parts := strings.Split(cache, "/")
		for i := range parts {
			p := path.Join(parts[:i+1]...)
			sub, err := descend(dir, p)
			if err == nil {
				_ = sub.Close() // read-only descriptor
				continue
			}
			if !errors.Is(err, unix.ENOENT) {
				break // something else of the user's, left alone
			}
			if !slices.Contains(paths, p) {
				paths = append(paths, p)
			}
		}
	}
	if dir == nil {
		return append(paths, Credentials)
	}
	if _, _, err := dir.Read(Credentials, awsconfig.MaxSize); errors.Is(err, unix.ENOENT) {
		paths = append(paths, Credentials)
	}
	return paths
}

// descend opens the directory at the relative path p.
func descend(dir *safefile.Dir, p string) (*safefile.Dir, error) {
	if dir == nil {
		return nil, unix.ENOENT
	}
	name, rest, more := strings.Cut(p, "/")
	sub, err := dir.Sub(name)
	if err != nil || !more {
		return sub, err
	}
	defer func() { _ = sub.Close() }() // read-only descriptor
	return descend(sub, rest)
}

// within calls f with the directory that holds the entry at path p.
func within(dir *safefile.Dir, p string, f func(dir *safefile.Dir, name string) error) error {
	parent, name := path.Split(p)
	if parent == "" {
		return f(dir, name)
	}
	sub, err := descend(dir, path.Clean(parent))
	if err != nil {
		return err
	}
	defer func() { _ = sub.Close() }() // read-only descriptor
	return f(sub, name)
}

// Furnish makes what is missing, for the user that dir is opened for. A name
// that they have taken meanwhile is theirs.
func Furnish(dir *safefile.Dir, paths []string) error {
	for _, p := range paths {
		err := within(dir, p, func(d *safefile.Dir, name string) error {
			if p == Credentials {
				_, err := d.Replace(name, safefile.Version{}, nil)
				return err
			}
			sub, _, err := d.MakeSub(name)
			if err != nil {
				return err
			}
			return sub.Close()
		})
		if err != nil && !Ignorable(err) && !errors.Is(err, safefile.ErrChanged) {
			return err
		}
	}
	return nil
}

// Unfurnish removes what Furnish has made and is still empty.
func Unfurnish(dir *safefile.Dir, paths []string) error {
	for _, p := range slices.Backward(paths) {
		err := within(dir, p, func(d *safefile.Dir, name string) error {
			if p != Credentials {
				return d.RemoveSub(name)
			}
			data, _, err := d.Read(name, awsconfig.MaxSize)
			if err != nil || len(data) > 0 {
				return err
			}
			return d.Remove(name)
		})
		if err != nil && !Ignorable(err) {
			return err
		}
	}
	return nil
}

// Ignorable tells errors that mean: the user has made it something else.
func Ignorable(err error) bool {
	for _, e := range []error{unix.ENOENT, unix.ENOTEMPTY, unix.EEXIST, unix.ENOTDIR, safefile.ErrNotDirectory,
		safefile.ErrNotRegular, safefile.ErrForeign, safefile.ErrTooLarge, safefile.ErrLeased} {
		if errors.Is(err, e) {
			return true
		}
	}
	return false
}
