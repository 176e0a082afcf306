// Command nbidentityd gives every AWS call that a SageMaker notebook makes the
// notebook's or the person's name.
//
//	nbidentityd run        the daemon: assume the role under the name, keep the
//	                       credentials fresh, hand them to nbidentity
//	nbidentityd install    write ~/.aws/config of the notebook's users and the
//	                       environment of their kernels and terminals
//	nbidentityd uninstall  restore what install and the daemon have changed
//	nbidentityd doctor     say what is wrong, what it means and what mends it
//	nbidentityd policy     write the IAM documents, proved before they are printed
//	nbidentityd fleet      write them with the lifecycle configuration and the
//	                       package's bucket in one template
//	nbidentityd who        say who made which AWS calls, from CloudTrail records
//	nbidentityd version    print the version
//
// This package only wires the rooms under internal together, in a file for each
// command, most of which are flags; README.md is the manual. Exit codes: 0 done, 1 failed, 2 usage, 3 found something.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"strings"
)

// version is set by the linker.
var version = "unversioned"

// A command is one word after the program's name.
type command struct {
	name, summary string
	run           func(ctx context.Context, p program, args []string) error
}

// program is what a command may touch of the process.
type program struct {
	stdout, stderr io.Writer
	getenv         func(string) string
}

// exitCode is an error that was already explained on stderr.
type exitCode int

func (c exitCode) Error() string { return fmt.Sprintf("exit code %d", int(c)) }

const errUsage = exitCode(2)

func commands() []command {
	return []command{
		{"run", "run the daemon", runDaemon},
		{"install", "write ~/.aws/config of the notebook's users and their kernels' environment", runInstall},
		{"uninstall", "restore what install and the daemon have changed, byte for byte", runUninstall},
		{"doctor", "say what is wrong, what it means and what mends it", runDoctor},
		{"policy", "write the IAM documents, proved before they are printed", runPolicy},
		{"fleet", "write them with lifecycle configuration and package bucket in one template", runFleet},
		{"who", "say who made which AWS calls, from CloudTrail records", runWho},
		{"version", "print the version", runVersion},
	}
}

func main() {
	p := program{stdout: os.Stdout, stderr: os.Stderr, getenv: os.Getenv}
	os.Exit(p.run(context.Background(), os.Args[1:]))
}

func (p program) run(ctx context.Context, args []string) int {
	err := p.dispatch(ctx, args)
	if err == nil || errors.Is(err, flag.ErrHelp) {
		return 0
	}
	if code := exitCode(0); errors.As(err, &code) {
		return int(code)
	}
	fmt.Fprintln(p.stderr, "nbidentityd:", err)
	return 1
}

func (p program) dispatch(ctx context.Context, args []string) error {
	if len(args) == 0 {
		p.usage(p.stderr)
		return errUsage
	}
	for _, c := range commands() {
		if c.name == args[0] {
			return c.run(ctx, p, args[1:])
		}
	}
	switch args[0] {
	case "help", "-h", "-help", "--help":
		p.usage(p.stdout)
		return nil
	case "-version", "--version": // as nbidentity has it
		return runVersion(ctx, p, nil)
	}
	fmt.Fprintf(p.stderr, "nbidentityd: there is no command %q\n", args[0])
	p.usage(p.stderr)
	return errUsage
}

func (p program) usage(w io.Writer) {
	fmt.Fprintln(w, "usage: nbidentityd COMMAND [flags]")
	for _, c := range commands() {
		fmt.Fprintf(w, "  %-10s %s\n", c.name, c.summary)
	}
	fmt.Fprintln(w, "nbidentityd COMMAND -h lists the command's flags.")
}

// flags parses the flags of one command, which takes no other arguments.
func (p program) flags(name string, args []string, define func(*flag.FlagSet)) error {
	fs := flag.NewFlagSet("nbidentityd "+name, flag.ContinueOnError)
	var says strings.Builder
	fs.SetOutput(&says)
	define(fs)
	switch err := fs.Parse(args); {
	case errors.Is(err, flag.ErrHelp):
		fmt.Fprint(p.stdout, says.String())
		return err
	case err != nil:
		fmt.Fprint(p.stderr, says.String())
		return errUsage
	}
	if fs.NArg() > 0 {
		fmt.Fprintf(p.stderr, "nbidentityd %s: unexpected argument %q\n", name, fs.Arg(0))
		return errUsage
	}
	return nil
}

func runVersion(_ context.Context, p program, args []string) error {
	if err := p.flags("version", args, func(*flag.FlagSet) {}); err != nil {
		return err
	}
	fmt.Fprintln(p.stdout, "nbidentityd", version)
	return nil
}
