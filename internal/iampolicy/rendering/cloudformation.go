package rendering

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
)

// Limits of CloudFormation (quotas of July 2026).
const (
	maxResources = 500
	maxBody      = 1 << 20 // from S3; 51,200 bytes inline
)

const (
	workParameter = "WorkPolicyArns"
	hasWork       = "HasWorkPolicies"
)

// cloudFormation writes a template; fleet may be nil.
func cloudFormation(s *iampolicy.Set, f Format, fleet *Fleet) ([]byte, error) {
	ids := newIdentifiers("")
	logical := map[string]string{} // role name → logical id
	var resources ordered.Object
	works := false
	for _, r := range s.Roles {
		logical[r.Name] = ids.of("Role" + r.Name)
		resources = append(resources, ordered.Member{Name: logical[r.Name], Value: cfnRole(r)})
		works = works || r.Works
	}
	for _, m := range s.Managed {
		resources = append(resources, ordered.Member{Name: ids.of("Policy" + m.Name), Value: cfnManaged(m, logical)})
	}
	resources = append(resources, fleet.cloudFormation(s, ids)...)
	if len(resources) > maxResources {
		return nil, fmt.Errorf("%d resources, CloudFormation takes %d in a template: make a template for each part of the names", len(resources), maxResources)
	}
	t := ordered.Object{{Name: "AWSTemplateFormatVersion", Value: "2010-09-09"},
		{Name: "Description", Value: fleet.title() + " for nbidentityd, mode " + string(s.Mode)}}
	deploy := append([]string{cfnDeploy(s, fleet)}, fleet.steps(s, f)...)
	notes := slices.Concat(deploy, s.Notes, commandNotes(s))
	if f == CloudFormationJSON { // which has no comments
		t = append(t, ordered.Member{Name: "Metadata", Value: ordered.Object{{Name: "nbidentityd", Value: ordered.Object{
			{Name: "Summary", Value: s.Summary}, {Name: "Notes", Value: lines(notes)}}}}})
	}
	if works {
		t = append(t, cfnWork()...)
	}
	t = append(t, ordered.Member{Name: "Resources", Value: resources})
	write := ordered.JSON
	if f == CloudFormationYAML {
		write = ordered.YAML
	}
	text, err := write(t)
	if err != nil {
		return nil, err
	}
	if f == CloudFormationYAML {
		text = append([]byte(comment(s, fleet, append(deploy, commandNotes(s)...)...)), text...)
	}
	if len(text) > maxBody {
		return nil, fmt.Errorf("%d bytes, CloudFormation takes %d: make a template for each part of the names", len(text), maxBody)
	}
	return text, nil
}

func commandNotes(s *iampolicy.Set) []string {
	if commands := sageMakerCommands(s); len(commands) > 0 {
		return []string{"This file does not do:\n" + strings.Join(commands, "\n")}
	}
	return nil
}

func cfnDeploy(s *iampolicy.Set, fleet *Fleet) string {
	text := "Deploy with the capability CAPABILITY_NAMED_IAM in account " + s.Account + "."
	if names := existing(s); len(names) > 0 {
		text += " Roles that exist (" + strings.Join(names, ", ") + ") must come into the stack by a change set of type IMPORT; a stack that is deleted leaves them."
		if fleet != nil {
			text += " An import takes no new resources: import them with the template of nbidentityd policy, then update that stack with this one."
		}
	}
	return text
}

// cfnWork declares the parameter for what the roles may do beside being named.
func cfnWork() ordered.Object {
	return ordered.Object{
		{Name: "Parameters", Value: ordered.Object{{Name: workParameter, Value: ordered.Object{
			{Name: "Type", Value: "CommaDelimitedList"}, {Name: "Default", Value: ""},
			{Name: "Description", Value: "ARNs of managed policies with the permissions for people's work, attached to every role under which they work"}}}}},
		{Name: "Conditions", Value: ordered.Object{{Name: hasWork, Value: fn("Fn::Not", ordered.List{fn("Fn::Equals", ordered.List{
			fn("Fn::Join", ordered.List{"", fn("Ref", workParameter)}), ""})})}}},
	}
}

func fn(name string, value any) ordered.Object { return ordered.Object{{Name: name, Value: value}} }

func cfnRole(r iampolicy.Role) ordered.Object {
	p := ordered.Object{{Name: "RoleName", Value: r.Name}, {Name: "Path", Value: r.Path}, {Name: "Description", Value: r.Description},
		{Name: "AssumeRolePolicyDocument", Value: r.Trust}}
	if r.Works {
		p = append(p, ordered.Member{Name: "ManagedPolicyArns", Value: fn("Fn::If", ordered.List{hasWork, fn("Ref", workParameter), fn("Ref", "AWS::NoValue")})})
	}
	if len(r.Inline) > 0 {
		var policies ordered.List
		for _, i := range r.Inline {
			policies = append(policies, ordered.Object{{Name: "PolicyName", Value: i.Name}, {Name: "PolicyDocument", Value: i.Document}})
		}
		p = append(p, ordered.Member{Name: "Policies", Value: policies})
	}
	if len(r.Tags) > 0 {
		var tags ordered.List
		for _, t := range r.Tags {
			tags = append(tags, ordered.Object{{Name: "Key", Value: t.Key}, {Name: "Value", Value: t.Value}})
		}
		p = append(p, ordered.Member{Name: "Tags", Value: tags})
	}
	o := ordered.Object{{Name: "Type", Value: "AWS::IAM::Role"}}
	if r.Exists { // an import demands it, and the role is not ours to delete
		o = append(o, ordered.Member{Name: "DeletionPolicy", Value: "Retain"}, ordered.Member{Name: "UpdateReplacePolicy", Value: "Retain"})
	}
	return append(o, ordered.Member{Name: "Properties", Value: p})
}

func cfnManaged(m iampolicy.ManagedPolicy, logical map[string]string) ordered.Object {
	p := ordered.Object{{Name: "ManagedPolicyName", Value: m.Name}, {Name: "Description", Value: m.Description}, {Name: "PolicyDocument", Value: m.Document}}
	if len(m.Roles) > 0 {
		var roles ordered.List
		for _, r := range m.Roles {
			roles = append(roles, fn("Ref", logical[r]))
		}
		p = append(p, ordered.Member{Name: "Roles", Value: roles})
	}
	return ordered.Object{{Name: "Type", Value: "AWS::IAM::ManagedPolicy"}, {Name: "Properties", Value: p}}
}
