// Package rendering writes a set of IAM documents in the languages in which
// administrators deploy them.
//
// It guarantees that every format deploys the same documents, byte for byte
// apart from white space, and that the same set gives the same text. It writes
// literal accounts, names and ARNs only, so that nothing is deployed that was
// not proved. Names are checked by package iampolicy; the shell script and the
// templates hold no character of them that their language could read as code.
//
// A role that exists is the administrator's: templates take it over (import)
// and never delete it, and the shell script keeps a copy of the trust policy
// that it replaces. A fleet adds, in templates only, how the daemon comes onto the
// notebooks; the documents stay the same.
//
// The package is longer than most because it speaks three languages:
// cloudformation.go, terraform.go and script.go.
package rendering

import (
	"cmp"
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
)

// Format is a language.
type Format string

// The formats.
const (
	JSON               Format = "json"
	CloudFormationJSON Format = "cloudformation-json"
	CloudFormationYAML Format = "cloudformation-yaml"
	Terraform          Format = "terraform"
	CLI                Format = "cli"
)

// Formats returns all formats.
func Formats() []Format {
	return []Format{JSON, CloudFormationJSON, CloudFormationYAML, Terraform, CLI}
}

// Write writes the set.
func Write(w io.Writer, s *iampolicy.Set, f Format) error { return write(w, s, f, nil) }

// WriteFleet writes the set together with how the daemon comes onto the
// notebooks. Only templates can hold both.
func WriteFleet(w io.Writer, s *iampolicy.Set, f Format, fleet Fleet) error {
	if !slices.Contains(FleetFormats(), f) {
		return fmt.Errorf("format %q cannot hold a fleet: use one of %v", f, FleetFormats())
	}
	return write(w, s, f, &fleet)
}

func write(w io.Writer, s *iampolicy.Set, f Format, fleet *Fleet) error {
	var text []byte
	var err error
	switch f {
	case JSON:
		text, err = ordered.JSON(plain(s))
	case CloudFormationJSON, CloudFormationYAML:
		text, err = cloudFormation(s, f, fleet)
	case Terraform:
		text, err = terraform(s, fleet)
	case CLI:
		text, err = script(s)
	default:
		return fmt.Errorf("there is no format %q: use one of %v", f, Formats())
	}
	if err != nil {
		return fmt.Errorf("writing %s: %w", f, err)
	}
	_, err = w.Write(text)
	return err
}

// comment is the head of a file in a language whose comments begin with #.
func comment(s *iampolicy.Set, fleet *Fleet, more ...string) string {
	var b strings.Builder
	paragraphs := append([]string{
		fmt.Sprintf("%s for nbidentityd, mode %s: %s.", fleet.title(), s.Mode, s.Summary),
		"nbidentityd " + fleet.command() + " " + string(s.Mode) + " -explain, with the same flags, prints what they allow and deny.",
	}, more...)
	for _, p := range append(paragraphs, s.Notes...) {
		b.WriteString(iampolicy.Wrap(p, "# ", "# ") + "\n#\n")
	}
	return strings.TrimSuffix(b.String(), "#\n")
}

// plain is the set as JSON for programs and for pasting into the console.
func plain(s *iampolicy.Set) ordered.Object {
	roles := ordered.List{}
	for _, r := range s.Roles {
		o := ordered.Object{{Name: "name", Value: r.Name}, {Name: "path", Value: r.Path}, {Name: "arn", Value: r.ARN},
			{Name: "description", Value: r.Description}, {Name: "exists", Value: r.Exists}}
		if len(r.Tags) > 0 {
			o = append(o, ordered.Member{Name: "tags", Value: tagObject(r.Tags)})
		}
		o = append(o, ordered.Member{Name: "trust_policy", Value: r.Trust})
		inline := ordered.List{}
		for _, p := range r.Inline {
			inline = append(inline, ordered.Object{{Name: "name", Value: p.Name}, {Name: "document", Value: p.Document}})
		}
		roles = append(roles, append(o, ordered.Member{Name: "inline_policies", Value: inline}))
	}
	managed := ordered.List{}
	for _, m := range s.Managed {
		managed = append(managed, ordered.Object{{Name: "name", Value: m.Name}, {Name: "arn", Value: m.ARN}, {Name: "description", Value: m.Description},
			{Name: "roles", Value: append([]string{}, m.Roles...)}, {Name: "document", Value: m.Document}})
	}
	o := ordered.Object{{Name: "mode", Value: string(s.Mode)}, {Name: "summary", Value: s.Summary}, {Name: "roles", Value: roles}, {Name: "managed_policies", Value: managed}}
	if commands := sageMakerCommands(s); len(commands) > 0 {
		o = append(o, ordered.Member{Name: "commands", Value: commands})
	}
	return append(o, ordered.Member{Name: "notes", Value: lines(s.Notes)})
}

func tagObject(tags []iampolicy.Tag) ordered.Object {
	var o ordered.Object
	for _, t := range tags {
		o = append(o, ordered.Member{Name: t.Key, Value: t.Value})
	}
	return o
}

// lines are those of notes, for a format that has no line breaks in a text.
func lines(notes []string) []string {
	all := []string{}
	for _, n := range notes {
		all = append(all, strings.Split(n, "\n")...)
	}
	return all
}

// sageMakerCommands are what no IAM resource does: for formats that cannot do
// it themselves.
func sageMakerCommands(s *iampolicy.Set) []string {
	region := ""
	if s.Region != "" {
		region = " --region " + s.Region
	}
	var all []string
	if s.Switch {
		all = append(all,
			"aws sagemaker list-apps"+region+" --domain-id-equals "+s.DomainID+" --query "+quote(runningApps)+" --output text",
			"aws sagemaker update-domain"+region+" --domain-id "+s.DomainID+" --domain-settings-for-update ExecutionRoleIdentityConfig=USER_PROFILE_NAME",
			// Pasted with the others, it must not undo them.
			"# off again: aws sagemaker update-domain"+region+" --domain-id "+s.DomainID+" --domain-settings-for-update ExecutionRoleIdentityConfig=DISABLED")
	}
	domain := cmp.Or(s.DomainID, "DOMAIN")
	for _, p := range s.Profiles {
		all = append(all, "aws sagemaker add-tags"+region+" --resource-arn \"$(aws sagemaker describe-user-profile"+region+
			" --domain-id "+domain+" --user-profile-name "+p.Name+" --query UserProfileArn --output text)\" --tags "+quote(tagJSON(p.Tags)))
	}
	return all
}

// tagJSON is a list of tags for the AWS CLI, whose shorthand gives commas and
// equals signs a meaning. Tags hold no character that JSON would escape.
func tagJSON(tags []iampolicy.Tag) string {
	var items []string
	for _, t := range tags {
		items = append(items, fmt.Sprintf(`{"Key":%q,"Value":%q}`, t.Key, t.Value))
	}
	return "[" + strings.Join(items, ",") + "]"
}

// existing are the names of the roles that exist.
func existing(s *iampolicy.Set) []string {
	var names []string
	for _, r := range s.Roles {
		if r.Exists {
			names = append(names, r.Name)
		}
	}
	return names
}

// runningApps selects the apps that keep a domain from being changed.
const runningApps = "Apps[?Status=='InService' || Status=='Pending'].[UserProfileName || SpaceName, AppType, AppName, Status]"

// quote writes s as one word for the shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }

// identifiers names resources: letters and digits of the role's name, made
// unique by a number. separator replaces what cannot be part of one.
type identifiers struct {
	separator string
	taken     map[string]bool
}

func (ids *identifiers) of(name string) string {
	var b strings.Builder
	for _, r := range name {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9':
			b.WriteRune(r)
		default:
			b.WriteString(ids.separator)
		}
	}
	base := b.String()
	if base == "" || base[0] >= '0' && base[0] <= '9' || base[0] == '_' {
		base = "r" + base
	}
	id := base
	for n := 2; ids.taken[strings.ToLower(id)]; n++ {
		id = fmt.Sprintf("%s%s%d", base, ids.separator, n)
	}
	ids.taken[strings.ToLower(id)] = true
	return id
}

func newIdentifiers(separator string) *identifiers {
	return &identifiers{separator, map[string]bool{}}
}
