package trust

import (
	"bytes"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/doctor/rolebook"
	"github.com/nbidentityd/nbidentityd/internal/iameval"
)

// policyName is the inline policy that remedies write.
const policyName = "NbIdentity"

// statement is one statement of a document, in the order that people write.
type statement struct {
	Sid       string `json:",omitempty"`
	Effect    string
	Principal map[string]string            `json:",omitempty"`
	Action    any                          // a string or several
	Resource  string                       `json:",omitempty"`
	Condition map[string]map[string]string `json:",omitempty"`
}

type document struct {
	Version   string
	Statement []any
}

// putTrust is the command that makes the trust policy let the base session take
// its name; none when no added statement does.
func (c Case) putTrust() []string {
	account := map[string]string{"AWS": "arn:" + c.Base.ARN.Partition + ":iam::" + c.Base.ARN.Account + ":root"}
	set := map[string]map[string]string{
		"ArnEquals":    {"aws:PrincipalArn": c.Base.ARN.String()},
		"StringEquals": {"sts:SourceIdentity": c.SourceIdentity},
	}
	assume := map[string]map[string]string{
		"ArnEquals":    {"aws:PrincipalArn": c.Base.ARN.String()},
		"StringEquals": {"sts:SourceIdentity": c.SourceIdentity, "sts:RoleSessionName": c.SessionName},
		"Null":         {"aws:SourceIdentity": "true"},
	}
	switch own := "${aws:SourceIdentity}"; {
	case c.BaseSource != "" && c.self():
		// The profile's name is in the session already: whoever it is may take it.
		set["StringEquals"] = map[string]string{"sts:SourceIdentity": own}
		assume["StringEquals"] = map[string]string{"sts:SourceIdentity": own, "sts:RoleSessionName": own}
		assume["Null"] = map[string]string{"aws:SourceIdentity": "false"}
	case c.BaseSource != "":
		// The role may be this profile's alone.
		set["StringEquals"] = map[string]string{"sts:SourceIdentity": c.BaseSource}
		assume["StringEquals"] = map[string]string{"sts:SourceIdentity": c.BaseSource, "sts:RoleSessionName": c.SessionName, "aws:SourceIdentity": c.BaseSource}
		delete(assume, "Null")
	}
	added := []statement{
		{Sid: "NbIdentityAssume", Effect: "Allow", Principal: account, Action: iameval.ActionAssumeRole, Condition: assume},
		{Sid: "NbIdentitySet", Effect: "Allow", Principal: account, Action: iameval.ActionSetSourceIdentity, Condition: set},
	}
	if len(c.Tags) > 0 {
		added = append(added, statement{Sid: "NbIdentityTag", Effect: "Allow", Principal: account, Action: iameval.ActionTagSession,
			Condition: map[string]map[string]string{"ArnEquals": {"aws:PrincipalArn": c.Base.ARN.String()}}})
	}
	text, doc, err := extend(c.Target, added)
	if err != nil {
		return nil
	}
	mended := c
	mended.Target.Trust = doc
	for _, check := range iameval.AssumeRole(mended.request()).Checks {
		if check.Trust.Outcome != iameval.Allowed || check.Refused == iameval.SideSession {
			return nil
		}
	}
	return []string{updateTrust(c.Target.ARN.Name, text)}
}

func showTrust(role string) string {
	return "aws iam get-role --role-name " + role + " --query Role.AssumeRolePolicyDocument"
}

func updateTrust(role string, text []byte) string {
	return "aws iam update-assume-role-policy --role-name " + role + " --policy-document " + quote(string(text))
}

// putPermission is the command that lets the base role ask for the name.
func (c Case) putPermission() string {
	actions := []string{iameval.ActionAssumeRole, iameval.ActionSetSourceIdentity}
	if len(c.Tags) > 0 {
		actions = append(actions, iameval.ActionTagSession)
	}
	name := policyName
	for i := 2; slices.ContainsFunc(c.Base.Policies, func(p rolebook.Policy) bool { return p.Name == name }); i++ {
		name = fmt.Sprintf("%s%d", policyName, i) // never in place of somebody's
	}
	text := indent(document{iameval.Version2012, []any{statement{Sid: "NbIdentity", Effect: "Allow", Action: actions, Resource: c.Target.ARN.String()}}})
	return "aws iam put-role-policy --role-name " + c.Base.ARN.Name + " --policy-name " + name + " --policy-document " + quote(string(text))
}

// extend is the role's trust policy with statements added, under Sids that are
// free, and without the principals that are gone.
func extend(role rolebook.Role, added []statement) ([]byte, iameval.Document, error) {
	var old struct{ Statement json.RawMessage }
	if err := json.Unmarshal(role.Text, &old); err != nil {
		return nil, iameval.Document{}, err
	}
	var raws []json.RawMessage
	if json.Unmarshal(old.Statement, &raws) != nil {
		raws = []json.RawMessage{old.Statement} // one statement need not be in a list
	}
	var doc document
	doc.Version = iameval.Version2012
	for i, s := range role.Trust.Statements {
		switch dead := slices.ContainsFunc(s.Principals, isDead); {
		case dead && !slices.ContainsFunc(s.Principals, func(p iameval.PrincipalName) bool { return !isDead(p) }):
		case dead:
			living, err := onlyLiving(raws[i])
			if err != nil {
				return nil, iameval.Document{}, err
			}
			doc.Statement = append(doc.Statement, living)
		default:
			doc.Statement = append(doc.Statement, raws[i])
		}
	}
	for _, s := range added {
		for base, i := s.Sid, 2; slices.ContainsFunc(role.Trust.Statements, func(o iameval.Statement) bool { return o.Sid == s.Sid }); i++ {
			s.Sid = fmt.Sprintf("%s%d", base, i)
		}
		doc.Statement = append(doc.Statement, s)
	}
	text := indent(doc)
	parsed, err := iameval.ParseDocument(text)
	if err == nil {
		err = parsed.CheckTrust()
	}
	if err == nil && iameval.Size(text) > iameval.MaxTrust {
		err = fmt.Errorf("%d characters", iameval.Size(text))
	}
	return text, parsed, err
}

// onlyLiving is a statement whose list of AWS principals has lost those that
// are gone.
func onlyLiving(raw json.RawMessage) (any, error) {
	var s map[string]any
	if err := json.Unmarshal(raw, &s); err != nil {
		return nil, err
	}
	if kinds, ok := s["Principal"].(map[string]any); ok {
		switch names := kinds["AWS"].(type) {
		case string:
			delete(kinds, "AWS")
		case []any:
			kinds["AWS"] = slices.DeleteFunc(names, func(n any) bool {
				id, ok := n.(string)
				return ok && deadPrincipal.MatchString(id)
			})
		}
	}
	return s, nil
}

func indent(d document) []byte {
	var b bytes.Buffer
	enc := json.NewEncoder(&b)
	enc.SetEscapeHTML(false)
	enc.SetIndent("", " ")
	if enc.Encode(d) != nil {
		return nil // strings and what was JSON before
	}
	return bytes.TrimSpace(b.Bytes())
}

// quote makes one word for a shell.
func quote(s string) string { return "'" + strings.ReplaceAll(s, "'", `'\''`) + "'" }
