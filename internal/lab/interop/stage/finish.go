package stage

import (
	"errors"
	"fmt"
	"io"
)

// ErrShown ends a run whose failures have been printed where they happened.
var ErrShown = errors.New("failures were shown")

// Finish prints how the run of a program ended and returns its exit code. What
// cannot run here is skipped by name, but on CI it is a failure.
func Finish(program string, err error, ci bool, stdout, stderr io.Writer) (code int) {
	if lacking := (Lacking{}); errors.As(err, &lacking) {
		err = fmt.Errorf("skipped: %w", lacking)
		if !ci {
			fmt.Fprintln(stdout, program+":", err)
			return 0
		}
	}
	switch {
	case err == nil:
		return 0
	case !errors.Is(err, ErrShown):
		fmt.Fprintln(stderr, program+":", err)
	}
	return 1
}
