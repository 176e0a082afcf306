package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os/exec"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/config"
	"github.com/aws/aws-sdk-go-v2/service/sts"
	"golang.org/x/sync/errgroup"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

const (
	workers = 4
	pause   = 10 * time.Millisecond // between one worker's calls
)

// callReport is what a load says when it ends.
type callReport struct {
	Calls    int
	Failures []callFailure
	Slowest  time.Duration
}

type callFailure struct {
	At    time.Time
	Error string
}

// runCalls is the load: it runs on the machine, as its user, until in ends. It
// writes to out a line's end after the first call, and a callReport at the end.
func runCalls(ctx context.Context, in io.Reader, out io.Writer) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	go func() {
		_, _ = io.Copy(io.Discard, in)
		stop()
	}()
	var mu sync.Mutex
	var report callReport
	var told error
	client := &http.Client{Timeout: 10 * time.Second}
	group := new(errgroup.Group)
	for range workers {
		group.Go(func() error {
			for ctx.Err() == nil {
				started := time.Now()
				err := oneCall(client)
				mu.Lock()
				if report.Calls++; report.Calls == 1 {
					_, told = fmt.Fprintln(out)
				}
				report.Slowest = max(report.Slowest, time.Since(started))
				if err != nil {
					report.Failures = append(report.Failures, callFailure{started, err.Error()})
				}
				mu.Unlock()
				lab.Wait(ctx, pause)
			}
			return nil
		})
	}
	if err := errors.Join(group.Wait(), told); err != nil {
		return err
	}
	return json.NewEncoder(out).Encode(report)
}

// oneCall finds its credentials anew and tries once, so that nothing hides a
// refusal. It is not interrupted when the load ends.
func oneCall(client *http.Client) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	cfg, err := config.LoadDefaultConfig(ctx, config.WithHTTPClient(client), config.WithRetryMaxAttempts(1))
	if err != nil {
		return err
	}
	_, err = sts.NewFromConfig(cfg).GetCallerIdentity(ctx, nil)
	return err
}

// load is a load that runs.
type load struct {
	cmd   *exec.Cmd
	stdin io.Closer
	out   *bufio.Reader
	said  bytes.Buffer // on stderr, where the SDK shows what the client says
}

// startLoad begins with cmd, which runs this program with -calls, and returns
// when it has made its first call.
func startLoad(cmd *exec.Cmd) (*load, error) {
	l := &load{cmd: cmd}
	cmd.Stderr = &l.said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	l.out = bufio.NewReader(out)
	if l.stdin, err = cmd.StdinPipe(); err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	if _, err := l.out.ReadByte(); err != nil {
		return nil, fmt.Errorf("the load: %w\n%s", errors.Join(err, l.cmd.Wait()), l.said.Bytes())
	}
	return l, nil
}

// stop ends the load and returns what came of it.
func (l *load) stop() (callReport, error) {
	var report callReport
	if err := l.stdin.Close(); err != nil {
		return report, err
	}
	said := json.NewDecoder(l.out).Decode(&report)
	if err := errors.Join(said, l.cmd.Wait()); err != nil {
		return report, fmt.Errorf("the load: %w\n%s", err, l.said.Bytes())
	}
	return report, nil
}
