// Package peer says who is at the other end of a unix socket.
//
// Uid, gid and pid come from the kernel (SO_PEERCRED) and are those of the
// process that called connect(2), at that moment: the caller cannot choose
// them, and being root inside a user namespace does not help it. They do not
// bind who holds the socket later; a process may pass its socket on.
//
// The pid and the program read from it are for the audit record, never for a
// decision: a process may have ended and its pid may belong to another by the
// time we look, or it may execute another program after connecting.
package peer

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/sys/unix"
)

// Cred is what the kernel says about a caller, in the reader's own namespaces.
type Cred struct {
	UID, GID uint32
	PID      int32 // 0 when the caller lives in a pid namespace that we cannot see
}

// Of returns the credentials of the process that connected c, or an error when
// c is not a unix socket.
func Of(c net.Conn) (Cred, error) {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return Cred{}, fmt.Errorf("reading peer credentials: a %T has none", c)
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return Cred{}, fmt.Errorf("reading peer credentials: %w", err)
	}
	var cred *unix.Ucred
	var optErr error
	err = raw.Control(func(fd uintptr) {
		cred, optErr = unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED)
	})
	if err == nil {
		err = optErr
	}
	if err != nil {
		return Cred{}, fmt.Errorf("reading peer credentials: %w", err)
	}
	return Cred{UID: cred.Uid, GID: cred.Gid, PID: cred.Pid}, nil
}

// longest program path that Exe returns, in bytes.
const maxExe = 256

// Exe returns the path of the program that process pid runs, or "" when it
// cannot be known (the process is gone, another user's, or out of sight).
// Characters that are not printable are replaced by "?", and only the end of a
// long path is kept. A deleted program ends in " (deleted)", as the kernel says it.
func Exe(pid int32) string {
	if pid <= 0 {
		return ""
	}
	path, err := os.Readlink("/proc/" + strconv.Itoa(int(pid)) + "/exe")
	if err != nil {
		return ""
	}
	return printable(path)
}

func printable(path string) string {
	if len(path) <= maxExe && !strings.ContainsFunc(path, func(r rune) bool { return r < ' ' || r > '~' }) {
		return path
	}
	out := make([]rune, 0, len(path))
	for _, r := range path {
		if r == utf8.RuneError || !unicode.IsPrint(r) {
			r = '?'
		}
		out = append(out, r)
	}
	s := string(out)
	if len(s) <= maxExe {
		return s
	}
	cut := len(s) - maxExe + len("…")
	for !utf8.RuneStart(s[cut]) {
		cut++
	}
	return "…" + s[cut:]
}
