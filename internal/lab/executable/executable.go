// Package executable writes programs that can be run at once, also in a process
// whose goroutines start others.
//
// The kernel does not run a file that anybody has open for writing ("text file
// busy"). Who starts a process gives it, until its exec, a copy of each open
// descriptor: so a file that has been written and closed is still open in
// whatever child was started meanwhile.
package executable

import (
	"errors"
	"os"
	"syscall"
)

// Write makes or replaces the file at path, for everybody to read and run
// whatever the umask. No child is started while it is open.
func Write(path string, text []byte) error {
	syscall.ForkLock.RLock()
	defer syscall.ForkLock.RUnlock()
	f, err := os.OpenFile(path, os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o755)
	if err != nil {
		return err
	}
	_, err = f.Write(text)
	return errors.Join(err, f.Chmod(0o755), f.Close())
}
