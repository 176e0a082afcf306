// Command fakeaws serves one strict AWS account on loopback: instance metadata,
// container credentials, STS, SageMaker's Describe calls, iam:GetRole, S3 and a
// CloudTrail record for every call. It is for tests, demonstrations and for
// trying nbidentityd without an account.
//
// It never contacts AWS, keeps its keys in memory, and listens on loopback
// addresses only unless -allow-any is given.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"net"
	"os"
	"os/signal"
	"strings"
	"syscall"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	code := run(ctx, os.Args[1:], os.Stdout, os.Stderr)
	stop()
	os.Exit(code)
}

// Exit codes.
const (
	exitDone   = 0
	exitFailed = 1
	exitUsage  = 2
)

// options are the command line.
type options struct {
	scenario      string
	api           string
	tls           string
	caFile        string
	imds          endpoints
	container     string
	admin         string
	trail         string
	trailDir      string
	readyFile     string
	allowAny      bool
	verbose       bool
	printScenario bool
}

// endpoints are repeated NOTEBOOK=ADDR flags.
type endpoints []endpoint

type endpoint struct{ notebook, addr string }

func (e *endpoints) String() string { return "" }

func (e *endpoints) Set(s string) error {
	notebook, addr, ok := strings.Cut(s, "=")
	if !ok || notebook == "" {
		return errors.New("want NOTEBOOK=ADDR")
	}
	*e = append(*e, endpoint{notebook, addr})
	return nil
}

func parse(args []string, stderr io.Writer) (options, error) {
	var o options
	f := flag.NewFlagSet("fakeaws", flag.ContinueOnError)
	f.SetOutput(stderr)
	f.Usage = func() {
		_, _ = fmt.Fprint(stderr, "usage: fakeaws [flags]\n\nServes one strict AWS account on loopback. Without flags: the default scenario,\neach part on a free port, and a note on how to point a client at it.\n\n")
		f.PrintDefaults()
	}
	f.StringVar(&o.scenario, "scenario", "", "`FILE` that describes the account (see -print-scenario)")
	f.StringVar(&o.api, "api", "127.0.0.1:0", "`ADDR` of all AWS services, plain HTTP; empty = off")
	f.StringVar(&o.tls, "tls", "", "`ADDR` of all AWS services over TLS, with a certificate for any name")
	f.StringVar(&o.caFile, "ca-file", "", "`FILE` to write the throw-away authority's certificate to (PEM)")
	f.Var(&o.imds, "imds", "`NOTEBOOK=ADDR` of a notebook instance's metadata; may be repeated (default: the first notebook on a free port)")
	f.StringVar(&o.container, "container", "127.0.0.1:0", "`ADDR` of the container credentials; empty = off")
	f.StringVar(&o.admin, "admin", "127.0.0.1:0", "`ADDR` of the controls; empty = off")
	f.StringVar(&o.trail, "trail", "", "`FILE` to append each CloudTrail record to, a line of JSON each")
	f.StringVar(&o.trailDir, "trail-dir", "", "`DIR` to deliver the trail to at exit, as AWSLogs/…/*.json.gz")
	f.StringVar(&o.readyFile, "ready-file", "", "`FILE` to write all addresses to (JSON) once everything listens")
	f.BoolVar(&o.allowAny, "allow-any", false, "listen on addresses that are not loopback, too")
	f.BoolVar(&o.verbose, "v", false, "say on stderr why AssumeRole calls are refused")
	f.BoolVar(&o.printScenario, "print-scenario", false, "print the default scenario and exit")
	if err := f.Parse(args); err != nil {
		return o, err
	}
	if f.NArg() > 0 {
		err := fmt.Errorf("unexpected argument %q", f.Arg(0))
		_, _ = fmt.Fprintln(stderr, "fakeaws:", err)
		return o, err
	}
	return o, nil
}

// run serves until ctx ends. It returns the exit code.
func run(ctx context.Context, args []string, stdout, stderr io.Writer) int {
	o, err := parse(args, stderr)
	switch {
	case errors.Is(err, flag.ErrHelp):
		return exitDone
	case err != nil:
		return exitUsage
	case o.printScenario:
		_, err = stdout.Write(scenario.DefaultJSON())
	default:
		err = serve(ctx, o, stdout, stderr)
	}
	if err != nil {
		_, _ = fmt.Fprintln(stderr, "fakeaws:", err)
		return exitFailed
	}
	return exitDone
}

// serve builds the account and runs all listeners.
func serve(ctx context.Context, o options, stdout, stderr io.Writer) (err error) {
	s := fakeaws.DefaultScenario()
	if o.scenario != "" {
		if s, err = fakeaws.LoadScenario(o.scenario); err != nil {
			return err
		}
	}
	cfg := fakeaws.Config{Scenario: s, TrailDir: o.trailDir}
	if o.verbose {
		cfg.Log = newLog(stderr)
	}
	if o.trail != "" {
		f, err := os.OpenFile(o.trail, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o644)
		if err != nil {
			return fmt.Errorf("opening trail: %w", err)
		}
		defer func() { err = errors.Join(err, f.Close()) }()
		cfg.Trail = f
	}
	account, err := fakeaws.New(cfg)
	if err != nil {
		return err
	}
	if len(o.imds) == 0 && len(s.Notebooks) > 0 {
		o.imds = endpoints{{s.Notebooks[0].Name, "127.0.0.1:0"}}
	}
	site, err := open(account, o)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, site.close()) }()
	if o.readyFile != "" {
		if err := writeJSON(o.readyFile, site.ready); err != nil {
			return err
		}
	}
	if err := explain(stdout, site.ready, s); err != nil {
		return err
	}
	if err := site.run(ctx); err != nil {
		return err
	}
	if o.trailDir != "" {
		return account.Flush(o.trailDir)
	}
	return nil
}

func newLog(w io.Writer) *zap.Logger {
	encoder := zap.NewProductionEncoderConfig()
	encoder.EncodeTime = zapcore.ISO8601TimeEncoder
	return zap.New(zapcore.NewCore(zapcore.NewJSONEncoder(encoder), zapcore.Lock(zapcore.AddSync(w)), zap.InfoLevel))
}

// checkAddress refuses an address that is not loopback.
func checkAddress(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return fmt.Errorf("address %q: %w", addr, err)
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("address %q is not loopback: whoever reaches it gets credentials and controls (-allow-any permits it)", addr)
	}
	return nil
}
