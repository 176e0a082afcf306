// Package inventory notes everything that a file system holds, so that two
// notes show what has been left behind: names, kinds, modes, owners, sizes,
// contents, link targets, extended attributes and the flags of chattr.
//
// It does not note times, nor directories' sizes. Special files are noted, not
// opened.
package inventory

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"maps"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
)

// The flags that somebody sets on purpose, of linux/fs.h. Others are the file
// system's own business.
const (
	immutable  = 0x10
	appendOnly = 0x20
)

// Inventory is a note of each file by its path, which begins with /.
type Inventory map[string]string

// Take notes what lies beneath root, which may be a link, but for paths that
// match one of the patterns of path.Match, and what lies beneath those.
func Take(root string, except []string) (Inventory, error) {
	all := Inventory{}
	root = filepath.Clean(root)
	err := filepath.WalkDir(root+"/", func(name string, entry fs.DirEntry, err error) error {
		inside := path.Join("/", strings.TrimPrefix(name, root))
		if slices.ContainsFunc(except, func(pattern string) bool { ok, _ := path.Match(pattern, inside); return ok }) {
			if entry != nil && entry.IsDir() {
				return fs.SkipDir
			}
			return nil
		}
		if err == nil {
			all[inside], err = describe(name, entry)
		}
		if errors.Is(err, fs.ErrNotExist) {
			delete(all, inside) // gone since the directory was read
			return nil
		}
		return err
	})
	return all, err
}

// describe is everything about one file, on a line.
func describe(name string, entry fs.DirEntry) (string, error) {
	var stat unix.Stat_t
	if err := unix.Lstat(name, &stat); err != nil {
		return "", &fs.PathError{Op: "lstat", Path: name, Err: err}
	}
	line := fmt.Sprintf("%.1s%04o %d:%d", entry.Type().String(), stat.Mode&0o7777, stat.Uid, stat.Gid)
	switch {
	case entry.Type()&fs.ModeSymlink != 0:
		target, err := os.Readlink(name)
		return line + " -> " + target, err
	case !entry.IsDir() && !entry.Type().IsRegular():
		return line, nil
	}
	file, err := os.OpenFile(name, os.O_RDONLY|unix.O_NOFOLLOW|unix.O_NONBLOCK, 0)
	if err != nil {
		return "", err
	}
	defer file.Close()
	if entry.Type().IsRegular() {
		hash := sha256.New()
		if _, err := io.Copy(hash, file); err != nil {
			return "", err
		}
		line += fmt.Sprintf(" %d %x", stat.Size, hash.Sum(nil)[:8])
	}
	if flags, err := unix.IoctlGetInt(int(file.Fd()), unix.FS_IOC_GETFLAGS); err == nil { // not every file system has them
		line += fmt.Sprintf(" flags %#x", flags&(immutable|appendOnly))
	}
	attributes := make([]byte, 4096)
	if n, err := unix.Flistxattr(int(file.Fd()), attributes); err == nil && n > 0 {
		line += fmt.Sprintf(" xattr %q", attributes[:n])
	}
	return line, nil
}

// Compare says what has appeared, disappeared or changed, a line each.
func Compare(before, after Inventory) []string {
	var all []string
	for _, name := range slices.Sorted(maps.Keys(after)) {
		switch was, there := before[name]; {
		case !there:
			all = append(all, "new: "+name+": "+after[name])
		case was != after[name]:
			all = append(all, "changed: "+name+": "+was+"; now "+after[name])
		}
	}
	for _, name := range slices.Sorted(maps.Keys(before)) {
		if _, there := after[name]; !there {
			all = append(all, "gone: "+name+": "+before[name])
		}
	}
	return all
}
