package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/lab"
	"github.com/nbidentityd/nbidentityd/internal/lab/bench/gauge"
)

// links are round trips to AWS and to the metadata service.
var links = []time.Duration{time.Microsecond, 20 * time.Millisecond, 100 * time.Millisecond}

// far puts AWS and the metadata service at the end of a link.
func far(ctx context.Context, a *lab.Account, link time.Duration) error {
	var faults []lab.Fault
	for _, service := range []string{"imds", "sts", "sagemaker"} {
		faults = append(faults, lab.Fault{Service: service, Kind: "latency", Duration: link.String()})
	}
	return a.Misbehave(ctx, faults...)
}

// firstCredentials prints how long a notebook waits for its first credentials: cold, when
// the daemon has never run, and warm, when it remembers what it was told. How
// many round trips follow one another shows in how the time grows with the link;
// counting requests would count those that nobody waits for, too.
func firstCredentials(ctx context.Context, l *lab.Lab, account *lab.Account) error {
	var first, last [2]time.Duration
	for _, link := range links {
		nb, err := l.NewNotebook(account, lab.Notebook{
			Name: fmt.Sprintf("start-%d", link.Milliseconds()), UID: os.Getuid(), IMDS: account.IMDS["alice-nb"], Metadata: lab.Metadata,
		})
		if err != nil {
			return err
		}
		for i, how := range []string{"cold", "warm"} {
			took, err := start(ctx, account, nb, link)
			if err != nil {
				return err
			}
			fmt.Printf("bench: start-%s %.0f ms over a link of %d ms\n", how, gauge.MS(took), link.Milliseconds())
			if link == links[0] {
				first[i] = took
			}
			last[i] = took
		}
	}
	for i, how := range []string{"cold", "warm"} {
		fmt.Printf("bench: trips-%s %.1f round trips one after the other until the first credentials\n",
			how, gauge.Ratio(last[i]-first[i], links[len(links)-1]-links[0]))
	}
	return account.Behave(ctx)
}

// start runs a daemon until it has answered once.
func start(ctx context.Context, account *lab.Account, nb *lab.Notebook, link time.Duration) (time.Duration, error) {
	if err := far(ctx, account, link); err != nil {
		return 0, err
	}
	begun := time.Now()
	daemon, err := nb.StartDaemon(ctx)
	if err != nil {
		return 0, err
	}
	return time.Since(begun), daemon.Stop()
}
