package who

import (
	"errors"
	"flag"
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/trail/athena"
)

// athenaFlags are the flags about a trail that is read in Athena.
type athenaFlags struct {
	wanted                         bool
	bucket, accounts, regions, org string
}

func newAthenaFlags(f *flag.FlagSet) *athenaFlags {
	a := new(athenaFlags)
	f.BoolVar(&a.wanted, "athena", false, "")
	f.StringVar(&a.bucket, "bucket", "", "")
	f.StringVar(&a.accounts, "account", "", "")
	f.StringVar(&a.regions, "region", "", "")
	f.StringVar(&a.org, "org", "", "")
	return a
}

func (a *athenaFlags) asked() bool {
	return a.wanted || a.bucket != "" || a.accounts != "" || a.regions != "" || a.org != ""
}

// trail returns the trail that the flags describe; the example, if they describe none.
func (a *athenaFlags) trail(f *flag.FlagSet, paths []string) (*athena.Trail, error) {
	if !a.wanted {
		return nil, errors.New("--bucket, --account, --region and --org go with --athena")
	}
	if len(paths) > 0 {
		return nil, fmt.Errorf("--athena prints queries and reads nothing; leave out %.80q", paths[0])
	}
	var other string
	f.Visit(func(set *flag.Flag) {
		switch set.Name {
		case "athena", "bucket", "account", "region", "org":
		default:
			other = set.Name
		}
	})
	if other != "" {
		return nil, fmt.Errorf("--athena goes with --bucket, --account, --region and --org alone, not with --%s", other)
	}
	t := athena.Example()
	if a.bucket == "" && a.accounts == "" && a.regions == "" && a.org == "" {
		return &t, nil
	}
	if a.bucket == "" || a.accounts == "" || a.regions == "" {
		return nil, errors.New("--athena: give --bucket, --account and --region, or none of them for an example")
	}
	t = athena.Trail{Bucket: a.bucket, Accounts: strings.Split(a.accounts, ","), Regions: strings.Split(a.regions, ","), Organization: a.org}
	if err := t.Check(); err != nil {
		return nil, fmt.Errorf("--athena: %w", err)
	}
	return &t, nil
}
