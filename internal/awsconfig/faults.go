package awsconfig

import "strings"

// Faults reports lines of the user's own that Apply leaves alone and that make
// some client refuse the file, or misread what the default profile says. A
// client that refuses it goes on to other credentials. Of many it reports the
// first. Either text may be nil.
func Faults(config, credentials []byte) []Finding {
	return append(faultsOf("config", config), faultsOf("credentials", credentials)...)
}

func faultsOf(file string, text []byte) []Finding {
	if tooLarge(text) {
		return nil // Apply and Shadows say so
	}
	doc, err := parse(splitLines(text))
	if err != nil {
		return nil // Apply says so; of a credentials file every client does
	}
	var found []Finding
	for _, it := range doc.items {
		if len(found) >= maxFindings {
			break
		}
		if it.indented && (it.kind == option || it.kind == header) {
			found = append(found, Finding{File: file, Line: it.num, Key: it.key,
				Problem: "an indented line without a value above it makes the SDKs for Java and Rust refuse the whole file",
				Remedy:  "move it to the start of the line"})
			continue
		}
		if it.kind != option {
			continue
		}
		key, value, equals := strings.Cut(it.text, "=")
		switch {
		case !equals:
			found = append(found, Finding{File: file, Line: it.num, Key: it.key,
				Problem: "a ':' for '=' makes the SDKs for Java and Rust refuse the whole file",
				Remedy:  "write " + it.key + " = …"})
		case it.section.canonical != "" && it.key == keyRegion && !strings.Contains(key, ":") && commented(value):
			found = append(found, Finding{File: file, Line: it.num, Key: it.key,
				Problem: "boto3 and the AWS CLI take the comment for a part of the region, and make no call",
				Remedy:  "put the comment on a line of its own"})
		}
	}
	return found
}

// commented reports whether a value ends in what most clients, but not botocore,
// take for a comment.
func commented(value string) bool {
	for _, sign := range []string{" #", "\t#", " ;", "\t;"} {
		if strings.Contains(value, sign) {
			return true
		}
	}
	return false
}
