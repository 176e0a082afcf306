package main

import (
	"context"
	"flag"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/rendering"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// policyFlags are the flags of the policy command that are no plain options.
type policyFlags struct {
	iampolicy.Options
	template, namesFile, format, kind string
	explain                           bool
}

// runPolicy writes the IAM documents of a mode, or what they allow and deny.
func runPolicy(_ context.Context, p program, args []string) error {
	var f policyFlags
	if err := f.parse(p, "policy", args, f.define); err != nil {
		return err
	}
	set, err := f.generate()
	if err != nil {
		return err
	}
	if f.explain {
		return set.Explain(p.stdout)
	}
	return rendering.Write(p.stdout, set, rendering.Format(f.format))
}

// parse reads a mode and its flags.
func (f *policyFlags) parse(p program, command string, args []string, define func(*flag.FlagSet)) error {
	if len(args) == 0 || strings.HasPrefix(args[0], "-") {
		if len(args) > 0 && slices.Contains([]string{"-h", "-help", "--help"}, args[0]) {
			policyUsage(p.stdout, command)
			return flag.ErrHelp
		}
		policyUsage(p.stderr, command)
		return errUsage
	}
	f.Mode = iampolicy.Mode(args[0])
	if !slices.ContainsFunc(iampolicy.Modes(), func(m struct{ Mode, Summary string }) bool { return m.Mode == args[0] }) {
		fmt.Fprintf(p.stderr, "nbidentityd %s: there is no mode %q\n", command, args[0])
		policyUsage(p.stderr, command)
		return errUsage
	}
	return p.flags(command+" "+args[0], args[1:], define)
}

// generate makes and proves the documents.
func (f *policyFlags) generate() (*iampolicy.Set, error) {
	var err error
	if f.Template, err = identity.ParseTemplate(f.template); err != nil {
		return nil, fmt.Errorf("template: %w", err)
	}
	f.Kind = identity.Kind(f.kind)
	if f.namesFile != "" {
		names, err := readNames(f.namesFile)
		if err != nil {
			return nil, err
		}
		f.Names = append(f.Names, names...)
	}
	return iampolicy.Generate(f.Options)
}

func policyUsage(w io.Writer, command string) {
	fmt.Fprintf(w, "usage: nbidentityd %s MODE [flags]\n", command)
	for _, m := range iampolicy.Modes() {
		fmt.Fprintf(w, "  %-18s  %s\n", m.Mode, m.Summary)
	}
	fmt.Fprintf(w, "nbidentityd %s MODE -h lists the flags.\n", command)
}

func (f *policyFlags) define(fs *flag.FlagSet) {
	list := func(to *[]string) func(string) error {
		return func(s string) error {
			*to = append(*to, strings.Split(s, ",")...)
			return nil
		}
	}
	fs.StringVar(&f.format, "format", string(rendering.JSON), fmt.Sprintf("`language` to write, one of %v", rendering.Formats()))
	fs.BoolVar(&f.explain, "explain", false, "write what the documents allow and deny, instead of the documents")
	fs.StringVar(&f.Account, "account", "", "`number` of the account; not needed when a role is given by ARN")
	fs.StringVar(&f.Partition, "partition", "", "`partition`; default that of a role's ARN or of the region")
	fs.StringVar(&f.Region, "region", "", "`region`; default: documents for all regions")
	fs.Func("role", "execution `role`: name, path and name, or ARN; comma lists, and may be repeated", list(&f.Roles))
	fs.Func("job-role", "`role` that is passed to SageMaker jobs: name or ARN; comma lists, and may be repeated", list(&f.JobRoles))
	fs.Func("name", "`name` of a notebook instance or user profile; self also takes patterns with * and ?; comma lists, and may be repeated", list(&f.Names))
	fs.StringVar(&f.namesFile, "names-file", "", "`file` with more names, one a line")
	fs.StringVar(&f.template, "template", "{name}", "session_name of the daemon's settings")
	fs.StringVar(&f.kind, "kind", "", "what the names are, for {kind} in the template: notebook, profile or space")
	fs.StringVar(&f.DomainID, "domain", "", "`id` of the Studio domain")
	fs.Func("user-id", "`profile=id`: the studiouserid of a profile, if not its name (per-profile); may be repeated", func(s string) error {
		profile, id, found := strings.Cut(s, "=")
		if !found {
			return fmt.Errorf("want profile=id")
		}
		if f.UserIDs == nil {
			f.UserIDs = map[string]string{}
		}
		f.UserIDs[profile] = id
		return nil
	})
	fs.BoolVar(&f.Propagated, "propagated", false, "the domain sets source identities (per-profile)")
	fs.StringVar(&f.RolePath, "role-path", "", "`path` of the roles that are made")
	fs.StringVar(&f.RolePrefix, "role-prefix", "", "what goes before the name in the name of a role that is made")
	fs.StringVar(&f.WorkRole, "work-role", "", "`role` that launchers assume; default NotebookWork")
	fs.StringVar(&f.TagKey, "tag", "", "`key` of the tag that binds a launcher to its name; default nbidentity")
	fs.StringVar(&f.Package, "package", "", "S3 `bucket/prefix` from which lifecycle configurations fetch nbidentityd")
	fs.BoolVar(&f.DenyUnattributed, "deny-unattributed", false, "deny everything to sessions without a name (self, per-notebook); see its pitfalls with -explain")
	fs.IntVar(&f.TrustLimit, "trust-limit", 0, "the account's quota of a trust policy in `characters`, 2048 to 4096; default 2048")
}

// readNames reads one name a line; empty lines and lines that begin with # do
// not count.
func readNames(path string) ([]string, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("reading names: %w", err)
	}
	var names []string
	for line := range strings.Lines(string(text)) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			names = append(names, line)
		}
	}
	return names, nil
}
