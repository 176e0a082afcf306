package main

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"golang.org/x/sys/unix"

	"github.com/nbidentityd/nbidentityd/internal/trail/archive"
	"github.com/nbidentityd/nbidentityd/internal/trail/source"
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
		Fetch:    fetch,
	})
	if code != who.Done {
		return exitCode(code)
	}
	return nil
}

// fetch finds what has to be fetched from AWS, with the caller's own credentials: unlike
// the daemon, this command takes them from wherever the AWS CLI would.
func fetch(ctx context.Context, p source.Place) ([]source.Input, source.Skipped, error) {
	cfg, err := config.LoadDefaultConfig(ctx, config.WithAppID("nbidentityd-who"))
	if err != nil {
		return nil, source.Skipped{}, fmt.Errorf("reading the AWS configuration: %w", err)
	}
	return archive.New(cfg).Find(ctx, p)
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
