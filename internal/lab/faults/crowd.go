package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strings"
	"sync"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	"github.com/aws/aws-sdk-go-v2/credentials"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker"

	"github.com/nbidentityd/nbidentityd/internal/lab"
)

// tally counts what a crowd has met.
type tally struct {
	asked        int
	failedValid  int // no answer although a good credential lived
	failedEnded  int // no answer after the last good credential had ended
	wrong        int // expired, incomplete, or of another name
	unattributed int // calls in the trail without the name
}

func (t *tally) add(o tally) {
	t.asked += o.asked
	t.failedValid += o.failedValid
	t.failedEnded += o.failedEnded
	t.wrong += o.wrong
	t.unattributed += o.unattributed
}

// crowd asks for credentials until it is sent home.
type crowd struct {
	rig   *rig
	awake sync.RWMutex // held by whoever asks

	mu      sync.Mutex
	tally   tally
	ends    time.Time       // of the latest good credential that anybody was given
	used    map[string]bool // by key id: a call was made with it
	failing bool            // the last answer was a failure
	witness []string
}

const (
	members  = 3
	breath   = 40 * time.Millisecond
	patience = 10 * time.Second // the client itself gives up after 4

	// Time.After of RFC 3339 seconds, and a client that starts just before the end.
	edge = 1500 * time.Millisecond
)

// gather starts the crowd; the function returned sends it home and waits.
func (c *crowd) gather(ctx context.Context) (home func()) {
	ctx, cancel := context.WithCancel(ctx)
	var group sync.WaitGroup
	for range members {
		group.Go(func() {
			for ctx.Err() == nil {
				c.awake.RLock()
				c.ask(ctx)
				c.awake.RUnlock()
				lab.Wait(ctx, breath)
			}
		})
	}
	group.Go(func() {
		for ctx.Err() == nil && !c.rig.trial.cutOff {
			// Kernels start after the daemon has written ~/.aws/config. Where it
			// cannot, the fence is what keeps them; there is none here.
			c.awake.RLock()
			if c.rig.configured() {
				c.program(ctx)
			}
			c.awake.RUnlock()
			lab.Wait(ctx, time.Second)
		}
	})
	return func() {
		cancel()
		group.Wait()
	}
}

// swell adds n members for d.
func (c *crowd) swell(ctx context.Context, n int, d time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, d)
	defer cancel()
	var group sync.WaitGroup
	for range n {
		group.Go(func() {
			for ctx.Err() == nil {
				c.ask(ctx)
			}
		})
	}
	group.Wait()
}

// suspend stops everybody, when nobody is asking, until wake is called.
func (c *crowd) suspend() (wake func()) {
	c.awake.Lock()
	return c.awake.Unlock
}

// answer is what a credential process prints.
type answer struct {
	Version                                    int
	AccessKeyId, SecretAccessKey, SessionToken string
	Expiration                                 time.Time
}

// ask runs the client once.
func (c *crowd) ask(ctx context.Context) {
	begun, ends := time.Now(), c.latestEnd()
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	cmd := c.rig.notebook.Command(limited, nil, c.rig.lab.Program("nbidentity"), "--socket", c.rig.notebook.Socket(), "credentials")
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err := cmd.Run()
	if ctx.Err() != nil {
		return // the trial was over before the answer came
	}
	var a answer
	if err == nil {
		err = json.Unmarshal(stdout.Bytes(), &a)
		if err != nil || a.AccessKeyId == "" || a.SecretAccessKey == "" || a.SessionToken == "" || a.Expiration.IsZero() {
			c.wrong("incomplete answer: %.200q", stdout.String())
			return
		}
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally.asked++
	if c.failing = err != nil; c.failing {
		c.fail(begun, ends, fmt.Sprintf("nbidentity: %v: %s", err, strings.TrimSpace(stderr.String())))
		return
	}
	if begun.After(a.Expiration) {
		c.wrongLocked("expired %s before it was asked for", begun.Sub(a.Expiration))
		return
	}
	if a.Expiration.After(c.ends) {
		c.ends = a.Expiration
	}
	if !c.used[a.AccessKeyId] {
		c.used[a.AccessKeyId] = true
		go c.use(a)
	}
}

// use makes a call with the credentials, so that the trail says whose they are.
func (c *crowd) use(a answer) {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	api := sagemaker.New(sagemaker.Options{
		Region: c.rig.account.Region, BaseEndpoint: &c.rig.account.API, Retryer: aws.NopRetryer{},
		Credentials: credentials.NewStaticCredentialsProvider(a.AccessKeyId, a.SecretAccessKey, a.SessionToken),
	})
	_, _ = api.DescribeNotebookInstance(ctx, &sagemaker.DescribeNotebookInstanceInput{NotebookInstanceName: aws.String(name)}) // the trail is the judge
}

// program is what stands for a kernel: an SDK's default chain, and a call that
// does without STS.
func (c *crowd) program(ctx context.Context) {
	begun, ends := time.Now(), c.latestEnd()
	limited, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	out, err := c.rig.sdk(limited).CombinedOutput()
	if ctx.Err() != nil || err == nil {
		return
	}
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		return // it could not even be started: not the daemon's doing
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.tally.asked++
	c.fail(begun, ends, fmt.Sprintf("SDK: %s", strings.TrimSpace(string(out))))
}

// fail counts a failure on the side where it belongs. ends is what was known when
// it was asked for: others may have had a new credential since.
func (c *crowd) fail(begun, ends time.Time, what string) {
	switch {
	case ends.IsZero() || time.Now().Add(edge).After(ends):
		c.tally.failedEnded++
	default:
		c.tally.failedValid++
		c.witnessLocked("%s (asked %s before the end)", what, ends.Sub(begun).Round(time.Millisecond))
	}
}

// latestEnd is when the last good credential ends that anybody has been given.
func (c *crowd) latestEnd() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.ends
}

func (c *crowd) wrong(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.wrongLocked(format, args...)
}

func (c *crowd) wrongLocked(format string, args ...any) {
	c.tally.wrong++
	c.witnessLocked(format, args...)
}

// witnessLocked keeps the first few descriptions.
func (c *crowd) witnessLocked(format string, args ...any) {
	if len(c.witness) < 3 {
		c.witness = append(c.witness, fmt.Sprintf(format, args...))
	}
}

// well reports whether the last answer was a good one.
func (c *crowd) well() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.failing
}
