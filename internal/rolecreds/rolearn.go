package rolecreds

import (
	"errors"
	"fmt"
	"strings"

	"github.com/aws/aws-sdk-go-v2/aws/arn"
)

// ExpandRoleARN fills the placeholders {account}, {partition} and {name} of a
// role ARN template, for accounts with one role per user profile:
//
//	arn:aws:iam::{account}:role/SageMakerStudioExecutionRole_{name}
//
// Any other placeholder, a value that could change the shape of the ARN (a
// name with a slash would reach another role) and a result that is not the ARN
// of an IAM role are errors.
func ExpandRoleARN(template, account, partition, name string) (string, error) {
	values := map[string]string{"account": account, "partition": partition, "name": name}
	var b strings.Builder
	rest := template
	for {
		text, tail, found := strings.Cut(rest, "{")
		b.WriteString(text)
		if !found {
			break
		}
		key, after, closed := strings.Cut(tail, "}")
		if !closed {
			return "", fmt.Errorf("role ARN template %q: %q is never closed", template, "{")
		}
		value, known := values[key]
		if !known {
			return "", fmt.Errorf("role ARN template %q: unknown placeholder {%s}; use {account}, {partition} and {name}", template, key)
		}
		if value == "" || !onlyNameChars(value) {
			return "", fmt.Errorf("role ARN template %q: %s %q cannot stand in an ARN", template, key, value)
		}
		b.WriteString(value)
		rest = after
	}
	expanded := b.String()
	if _, err := parseRole(expanded); err != nil {
		return "", fmt.Errorf("role ARN template %q: %w", template, err)
	}
	return expanded, nil
}

// role is a role ARN taken apart.
type role struct {
	arn, partition, account, name string
}

func parseRole(s string) (role, error) {
	a, err := arn.Parse(s)
	if err != nil || len(s) > 2048 {
		return role{}, fmt.Errorf("%q is not an ARN of at most 2048 characters", s)
	}
	path, isRole := strings.CutPrefix(a.Resource, "role/")
	name := path[strings.LastIndexByte(path, '/')+1:]
	switch {
	case a.Service != "iam" || a.Region != "" || !isRole:
		return role{}, fmt.Errorf("%q is not the ARN of an IAM role (arn:aws:iam::111122223333:role/Name)", s)
	case !strings.HasPrefix(a.Partition, "aws") || !onlyNameChars(a.Partition):
		return role{}, fmt.Errorf("%q names an unknown partition %q", s, a.Partition)
	case len(a.AccountID) != 12 || strings.Trim(a.AccountID, "0123456789") != "":
		return role{}, fmt.Errorf("%q: the account is not 12 digits", s)
	case name == "" || len(name) > 64 || !onlyNameChars(name):
		return role{}, fmt.Errorf("%q: the role name must have 1 to 64 characters out of A-Z a-z 0-9 + = , . @ _ -", s)
	case strings.IndexFunc(path, func(r rune) bool { return r <= ' ' || r > '~' }) >= 0:
		return role{}, fmt.Errorf("%q: the path of the role holds a character that IAM does not allow", s)
	}
	return role{arn: s, partition: a.Partition, account: a.AccountID, name: name}, nil
}

// sessionARN is how STS and CloudTrail name a session of r. The path of the
// role is not part of it.
func (r role) sessionARN(session string) string {
	return fmt.Sprintf("arn:%s:sts::%s:assumed-role/%s/%s", r.partition, r.account, r.name, session)
}

// checkName reports why STS would not accept s as a role session name or a
// source identity.
func checkName(s string) error {
	if len(s) < 2 || len(s) > 64 || !onlyNameChars(s) {
		return errors.New("must have 2 to 64 characters out of A-Z a-z 0-9 + = , . @ _ -")
	}
	return nil
}

// onlyNameChars reports whether s holds nothing outside [A-Za-z0-9_+=,.@-].
func onlyNameChars(s string) bool {
	for i := range len(s) {
		switch c := s[i]; {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
		case strings.IndexByte("_+=,.@-", c) >= 0:
		default:
			return false
		}
	}
	return true
}
