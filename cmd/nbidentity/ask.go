package main

import (
	"errors"
	"syscall"
	"unsafe"
)

// failure is an error with the code that programs see.
type failure struct{ code, message string }

func (f *failure) Error() string { return f.code + ": " + f.message }

// question is one request to the daemon.
type question struct {
	socket  string
	method  string
	path    string
	accept  string
	body    string
	maxBody int // of the answer
	// patience is how long to try again to reach a daemon that is restarting
	// or overrun, limit the whole time to an answer; both in nanoseconds.
	patience, limit int64
}

// transient wraps what may be over in a moment.
type transient struct{ error }

func (t transient) Unwrap() error { return t.error }

// ask returns the daemon's answer of whatever status, or a *failure.
//
// Asking twice does no harm, so whatever a restart of the daemon can cause is
// tried again, at growing intervals: no socket yet, nobody behind it, a
// connection that ends before the answer does, an answer "busy" or "not_ready".
// A change that was sent and not answered may have been made, and is not.
func ask(q question) (answer, error) {
	start := now()
	pause := int64(2e6)
	var before struct { // what an earlier try brought: says more than a timeout
		answer
		err error
	}
	for tries := 0; ; tries++ {
		a, err := askOnce(q, start+q.limit)
		var again transient
		switch {
		case err == nil && a.code != "busy" && a.code != "not_ready":
			return a, nil
		case err == errTimeout && tries > 0:
			return before.answer, before.err
		case err != nil && !errors.As(err, &again):
			return a, err
		}
		until := start + q.limit
		if err != nil {
			until = start + q.patience
			err = again.error
		}
		if now()+pause >= until {
			return a, err
		}
		before.answer, before.err = a, err
		sleep(pause)
		pause = min(2*pause, 100e6)
	}
}

func askOnce(q question, deadline int64) (answer, error) {
	fd, err := connect(q.socket, deadline)
	if err != nil {
		return answer{}, err
	}
	defer syscall.Close(fd)
	if err := checkDaemon(fd, q.socket); err != nil {
		return answer{}, err
	}
	request := q.method + " " + q.path + " HTTP/1.1\r\nHost: nbidentity\r\nAccept: " + q.accept + "\r\nConnection: close\r\n"
	if q.body != "" {
		request += "Content-Length: " + decimal(len(q.body)) + "\r\n"
	}
	request += "\r\n" + q.body
	// It fits the socket's buffer. When it fails, the daemon may have answered
	// and closed already; if not, reading fails as well.
	sendErr := error(syscall.EINTR)
	for sendErr == syscall.EINTR {
		_, sendErr = syscall.SendmsgN(fd, []byte(request), nil, nil, syscall.MSG_NOSIGNAL)
	}
	buf := make([]byte, maxHeader+q.maxBody+1)
	n := 0
	for {
		if err := setTimeout(fd, syscall.SO_RCVTIMEO, deadline); err != nil {
			return answer{}, err
		}
		m, err := syscall.Read(fd, buf[n:])
		switch {
		case err == syscall.EINTR:
			continue
		case err == syscall.EAGAIN:
			return answer{}, errTimeout
		case err != nil || m == 0: // it died or dropped us
			if sendErr != nil {
				err = sendErr
			}
			if q.method != "GET" {
				return answer{}, lost(err)
			}
			return answer{}, transient{lost(err)}
		}
		n += m
		a, err := parse(buf[:n], q.maxBody)
		if err == nil {
			return a, nil
		}
		if err != errShort {
			return answer{}, &failure{"bad_answer", err.Error()}
		}
	}
}

// remedy ends what a notebook's user reads in an SDK's error when the daemon
// does not do its work. Most users can neither see nor start it; a start of the
// notebook installs it anew.
const remedy = "; if that lasts, stop and start the notebook, or ask its administrator (nbidentityd doctor)"

var errTimeout error = &failure{"timeout", "nbidentityd did not answer in time" + remedy}

func lost(err error) error {
	message := "nbidentityd ended the connection without an answer"
	if err != nil {
		message += ": " + err.Error()
	}
	return &failure{"no_answer", message}
}

// connect returns a connected blocking socket. It waits for a place in a full
// queue, which net.Dial would not.
func connect(path string, deadline int64) (int, error) {
	fd, err := syscall.Socket(syscall.AF_UNIX, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, &failure{"failed", "creating a socket: " + err.Error()}
	}
	if err := connectFD(fd, path, deadline); err != nil {
		syscall.Close(fd)
		return -1, err
	}
	return fd, nil
}

func connectFD(fd int, path string, deadline int64) error {
	for {
		if err := setTimeout(fd, syscall.SO_SNDTIMEO, deadline); err != nil {
			return err
		}
		err := syscall.Connect(fd, &syscall.SockaddrUnix{Name: path})
		switch err {
		case nil:
			return nil
		case syscall.EINTR:
			continue
		case syscall.EAGAIN:
			return errTimeout
		}
		f := &failure{"no_daemon", "nothing answers at " + path + " (" + err.Error() + ")" + remedy}
		switch err {
		case syscall.ECONNREFUSED:
			return transient{f}
		case syscall.ENOENT:
			var st syscall.Stat_t
			if syscall.Stat(dir(path), &st) == nil {
				return transient{f} // it has run here: it may be restarting
			}
		case syscall.EACCES:
			f.code = "forbidden"
			f.message = "this user may not open " + path
		}
		return f
	}
}

// checkDaemon refuses an answerer that could be a squatter: it must run as
// root, as ourselves (who could harm us anyway), or as the owner of the
// socket's directory, who decides what is in it.
func checkDaemon(fd int, path string) error {
	cred, err := syscall.GetsockoptUcred(fd, syscall.SOL_SOCKET, syscall.SO_PEERCRED)
	if err != nil {
		return &failure{"failed", "asking who answers: " + err.Error()}
	}
	if cred.Uid == 0 || cred.Uid == uint32(syscall.Geteuid()) {
		return nil
	}
	var st syscall.Stat_t
	if err := syscall.Stat(dir(path), &st); err == nil && st.Uid == cred.Uid {
		return nil
	}
	return &failure{"untrusted_daemon", "the process that answers at " + path +
		" runs neither as root, nor as this user, nor as the owner of the directory"}
}

// dir is the directory of a socket's path.
func dir(path string) string {
	for i := len(path) - 1; i >= 0; i-- {
		if path[i] == '/' {
			return path[:i+1]
		}
	}
	return "."
}

// setTimeout makes the next blocking call on fd end at the deadline.
func setTimeout(fd, option int, deadline int64) error {
	left := deadline - now()
	if left <= 0 {
		return errTimeout
	}
	tv := syscall.NsecToTimeval(max(left, 1e6)) // 0 would mean forever
	if err := syscall.SetsockoptTimeval(fd, syscall.SOL_SOCKET, option, &tv); err != nil {
		return &failure{"failed", "setting a timeout: " + err.Error()}
	}
	return nil
}

// now is the monotonic clock in nanoseconds.
func now() int64 {
	var ts syscall.Timespec
	const clockMonotonic = 1
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

func sleep(ns int64) {
	ts := syscall.NsecToTimespec(ns)
	syscall.Nanosleep(&ts, nil) // cut short by a signal: the caller looks at the clock
}
