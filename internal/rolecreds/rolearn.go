package rolecreds

import (
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/identity"
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
		if identity.CheckName(value) != nil { // accounts and partitions have the shape of names
			return "", fmt.Errorf("role ARN template %q: %s %q cannot stand in an ARN", template, key, value)
		}
		b.WriteString(value)
		rest = after
	}
	expanded := b.String()
	if _, err := identity.ParseRoleARN(expanded); err != nil {
		return "", fmt.Errorf("role ARN template %q: %w", template, err)
	}
	return expanded, nil
}
