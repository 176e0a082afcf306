package main

import (
	"context"
	"os"
	"strconv"
	"time"

	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/trail/who"
)

// runWho answers from CloudTrail records who made which calls.
func runWho(ctx context.Context, p program, args []string) error {
	code := who.Run(ctx, args, who.Config{
		Stdin:    os.Stdin,
		Stdout:   p.stdout,
		Stderr:   p.stderr,
		Columns:  columns(p, unix.Stdout),
		Terminal: isTerminal(unix.Stderr),
		Now:      time.Now(),
	})
	if code != who.Done {
		return exitCode(code)
	}
	return nil
}

func isTerminal(fd int) bool {
	_, err := unix.IoctlGetTermios(fd, unix.TCGETS)
	return err == nil
}

// columns is the width of the terminal on fd, 0 when it is none.
func columns(p program, fd int) int {
	size, err := unix.IoctlGetWinsize(fd, unix.TIOCGWINSZ)
	if err != nil {
		return 0
	}
	if wish, err := strconv.Atoi(p.getenv("COLUMNS")); err == nil && wish > 0 {
		return wish
	}
	return int(size.Col)
}
