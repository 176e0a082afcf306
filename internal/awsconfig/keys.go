package awsconfig

import "strings"

const (
	keyProcess = "credential_process"
	keyRegion  = "region"
	keySTS     = "sts_regional_endpoints"
)

// conflicting reports whether key, in lower case, makes some client prefer
// other credentials than the process's, or refuse the profile.
func conflicting(key string) bool {
	switch key {
	case "role_arn", "credential_source", "source_profile", "web_identity_token_file", "login_session",
		"aws_access_key_id", "aws_secret_access_key", "aws_session_token", "aws_security_token",
		"role_session_name", "external_id", "mfa_serial", "duration_seconds", keyProcess:
		return true
	}
	return strings.HasPrefix(key, "sso_")
}

func secret(key string) bool {
	return strings.HasPrefix(key, "aws_s") || key == keyProcess // a command line may carry one
}

// keysOf returns the keys, in lower case, that the clients read from a line:
// some end a key at '=' only, some at ':' too. Comments and headers have none.
func keysOf(text string) []string {
	value := strings.TrimFunc(text, isSpace)
	if value == "" || strings.ContainsRune("#;[", rune(value[0])) {
		return nil
	}
	var keys []string
	for _, separators := range []string{"=:", "="} {
		if i := strings.IndexAny(value, separators); i > 0 {
			keys = append(keys, strings.ToLower(strings.TrimFunc(value[:i], isSpace)))
		}
	}
	return keys
}

// findKey returns the first key of the line that match accepts.
func findKey(text string, match func(string) bool) (string, bool) {
	for _, k := range keysOf(text) {
		if match(k) {
			return k, true
		}
	}
	return "", false
}

// valueOf returns the key and value of a plain "key = value" line.
func valueOf(text string) (key, value string) {
	key, value, _ = strings.Cut(text, "=")
	return strings.ToLower(strings.TrimSpace(key)), strings.TrimSpace(value)
}
