package credserver

import (
	"context"
	"strings"
	"sync"
	"testing"

	"github.com/aws/aws-sdk-go-v2/aws"
)

// Who waits for the first credential holds no turn: all of a crowd wait at the
// same time.
func TestWaitingTakesNoTurn(t *testing.T) {
	const crowd = 40 // more than are answered without a turn
	var waiting sync.WaitGroup
	waiting.Add(crowd)
	p := providerFunc(func(ctx context.Context) (aws.Credentials, error) {
		ctx.Done()
		waiting.Done()
		waiting.Wait()
		return good(), nil
	})
	r := start(t, Config{Credentials: p})
	var all sync.WaitGroup
	for range crowd {
		all.Go(func() {
			if answer := raw(t, r.path, "GET /v1/credentials HTTP/1.1\r\nHost: x\r\n\r\n"); !strings.Contains(answer, testSecret) {
				t.Errorf("answer %q", answer)
			}
		})
	}
	all.Wait()
}
