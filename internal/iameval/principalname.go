package iameval

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
)

func parsePrincipals(raw json.RawMessage) ([]PrincipalName, error) {
	if raw[0] == '"' {
		if s, err := text(raw); err != nil || s != "*" {
			return nil, errors.New(`a principal is "*" or an object such as {"AWS": "arn:…"}`)
		}
		return []PrincipalName{{Type: "AWS", ID: "*"}}, nil
	}
	kinds, err := object(raw)
	if err != nil {
		return nil, err
	}
	if len(kinds) == 0 {
		return nil, errors.New("the object is empty: add a principal")
	}
	var all []PrincipalName
	for _, kind := range kinds {
		check := checkNonEmpty
		switch kind.name {
		case "AWS":
			check = checkAWSPrincipal
		case "Service":
			check = checkServicePrincipal
		case "Federated", "CanonicalUser":
		default:
			return nil, fmt.Errorf("unknown kind of principal %q: use AWS, Service or Federated", clip(kind.name))
		}
		ids, err := texts(kind.value, check)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", kind.name, err)
		}
		for _, id := range ids {
			all = append(all, PrincipalName{Type: kind.name, ID: id})
		}
	}
	return all, nil
}

func checkNonEmpty(id string) error {
	if id == "" {
		return errors.New("a principal is empty: write its name")
	}
	return nil
}

func checkServicePrincipal(id string) error {
	if strings.ContainsAny(id, "*?/: ") || !strings.Contains(id, ".") {
		return fmt.Errorf("%q: a service principal is a name such as sagemaker.amazonaws.com", clip(id))
	}
	return nil
}

// checkAWSPrincipal takes "*", an account, the ARN of an account root, role,
// user or session, or a unique id (what IAM shows when the role or user that
// was named is gone).
func checkAWSPrincipal(id string) error {
	switch {
	case id == "*":
		return nil
	case strings.ContainsAny(id, "*?"):
		return fmt.Errorf(`%q: no wildcard inside a principal: name the account and use a condition on aws:PrincipalArn`, clip(id))
	case isAccount(id) || isUniqueID(id):
		return nil
	}
	parts, ok := splitARN([]rune(id))
	kind, name, _ := strings.Cut(string(parts[5]), "/")
	if ok && string(parts[0]) == "arn" && len(parts[3]) == 0 && isAccount(string(parts[4])) {
		switch string(parts[2]) + ":" + kind {
		case "iam:root":
			ok = name == ""
		case "iam:role", "iam:user", "sts:federated-user":
			ok = name != "" && !strings.HasSuffix(name, "/")
		case "sts:assumed-role":
			role, session, _ := strings.Cut(name, "/")
			ok = role != "" && session != "" && !strings.Contains(session, "/")
		default:
			ok = false
		}
		if ok {
			return nil
		}
	}
	return fmt.Errorf("%q: must be an account, or the ARN of an account root, role, user or assumed-role session", clip(id))
}

func isAccount(s string) bool {
	return len(s) == 12 && strings.Trim(s, "0123456789") == ""
}

// isUniqueID reports whether s looks like AROA… or AIDA….
func isUniqueID(s string) bool {
	return len(s) > 4 && (s[:4] == "AROA" || s[:4] == "AIDA") &&
		strings.Trim(s, "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") == ""
}
