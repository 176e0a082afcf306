package rendering

import (
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
)

// scriptHead begins every script: it refuses the wrong account before it
// changes anything.
const scriptHead = `set -eu
export AWS_PAGER=''

fail() {
  echo "$0: $1" >&2
  exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
`

const accountCheck = `
found=$(aws sts get-caller-identity --query Account --output text)
[ "$found" = "$account" ] || fail "these documents are for account $account, the credentials for $found"
`

// scriptFunctions are what the steps call.
const scriptFunctions = `
# known ARN: whether the role or policy exists; any other failure ends the script.
known() {
  case $1 in
  *:role/*) set -- "$1" get-role --role-name "${1##*/}" --query Role.Arn ;;
  *) set -- "$1" get-policy --policy-arn "$1" --query Policy.Arn ;;
  esac
  arn=$1
  shift
  if is=$(aws iam "$@" --output text 2>"$work/error"); then
    [ "$is" = "$arn" ] || fail "there is $is, where these documents want $arn"
    return 0
  fi
  grep -q NoSuchEntity "$work/error" || fail "$(cat "$work/error")"
  return 1
}

# existing_role ARN: replace its trust policy; the first one stays in a file.
existing_role() {
  known "$1" || fail "there is no role $1"
  name=${1##*/}
  if [ ! -e "$name.trust.before.json" ]; then
    aws iam get-role --role-name "$name" --query Role.AssumeRolePolicyDocument --output json >"$work/before"
    mv "$work/before" "$name.trust.before.json"
    echo "$name: the trust policy until now is in $name.trust.before.json; this puts it back:"
    echo "  aws iam update-assume-role-policy --role-name $name --policy-document file://$name.trust.before.json"
  fi
  aws iam update-assume-role-policy --role-name "$name" --policy-document "file://$work/trust"
  echo "$name: trust policy replaced"
}

# made_role ARN PATH DESCRIPTION: make the role, or give it its trust policy.
made_role() {
  name=${1##*/}
  if known "$1"; then
    aws iam update-assume-role-policy --role-name "$name" --policy-document "file://$work/trust"
    echo "$name: trust policy replaced"
  else
    aws iam create-role --role-name "$name" --path "$2" --description "$3" --assume-role-policy-document "file://$work/trust" >"$work/out"
    echo "$name: made"
  fi
}

# inline ROLE NAME: store the inline policy.
inline() {
  aws iam put-role-policy --role-name "$1" --policy-name "$2" --policy-document "file://$work/policy"
  echo "$1: policy $2"
}

# managed ARN DESCRIPTION: make the policy, or a new version of it. IAM keeps
# five versions: the oldest makes room.
managed() {
  if ! known "$1"; then
    aws iam create-policy --policy-name "${1##*/}" --description "$2" --policy-document "file://$work/policy" >"$work/out"
    return
  fi
  versions=$(aws iam list-policy-versions --policy-arn "$1" --query 'Versions[?!IsDefaultVersion].VersionId' --output text)
  # shellcheck disable=SC2086
  set -- "$1" $versions
  arn=$1
  if [ $# -ge 5 ]; then
    while [ $# -gt 1 ]; do shift; done
    aws iam delete-policy-version --policy-arn "$arn" --version-id "$1"
  fi
  aws iam create-policy-version --policy-arn "$arn" --set-as-default --policy-document "file://$work/policy" >"$work/out"
}

# work_policies ROLE: attach what people need for their work.
work_policies() {
  for arn in ${WORK_POLICY_ARNS-}; do
    aws iam attach-role-policy --role-name "$1" --policy-arn "$arn"
  done
}
`

// script writes a POSIX shell script for the AWS CLI, which can be run again.
func script(s *iampolicy.Set) ([]byte, error) {
	sh := &shell{}
	usage := "usage: sh FILE"
	switch {
	case s.Switch:
		usage += " check | enable | disable"
	case len(s.Profiles) > 0 && s.DomainID == "":
		usage += " DOMAIN-ID"
	}
	more := []string{usage}
	for _, r := range s.Roles {
		if r.Works {
			more = append(more, "WORK_POLICY_ARNS in the environment, separated by spaces: managed policies with the permissions for people's work, attached to every role under which they work.")
			break
		}
	}
	sh.b.WriteString("#!/bin/sh\n" + comment(s, nil, more...) + "\n" + scriptHead)
	fmt.Fprintf(&sh.b, "account=%s\n", s.Account)
	sh.arguments(s, usage)
	sh.b.WriteString(accountCheck)
	if s.Switch {
		sh.propagation(s)
	}
	sh.b.WriteString(scriptFunctions)
	for _, m := range s.Managed {
		sh.file("policy", m.Document)
		fmt.Fprintf(&sh.b, "managed %s %s\n", quote(m.ARN), quote(m.Description))
	}
	for _, r := range s.Roles {
		sh.role(s, r)
	}
	if s.Switch {
		sh.b.WriteString("\nswitch USER_PROFILE_NAME\n")
	}
	for _, p := range s.Profiles {
		sh.profile(s, p)
	}
	return []byte(sh.b.String()), sh.err
}

type shell struct {
	b   strings.Builder
	err error
}

// arguments reads the script's own.
func (sh *shell) arguments(s *iampolicy.Set, usage string) {
	number, test := 0, ""
	switch {
	case s.Switch:
		number, test = 1, ` && case ${1-} in check | enable | disable) ;; *) false ;; esac`
	case len(s.Profiles) > 0 && s.DomainID == "":
		number = 1
	}
	fmt.Fprintf(&sh.b, "\nif ! { [ $# -eq %d ]%s; }; then\n  echo \"%s\" >&2\n  exit 2\nfi\n", number, test, strings.Replace(usage, "FILE", "$0", 1))
	switch {
	case s.DomainID != "" && (s.Switch || len(s.Profiles) > 0):
		fmt.Fprintf(&sh.b, "domain=%s\n", s.DomainID)
	case len(s.Profiles) > 0:
		sh.b.WriteString("domain=$1\n")
	}
	if s.Region != "" && (s.Switch || len(s.Profiles) > 0) {
		fmt.Fprintf(&sh.b, "export AWS_REGION=%s\n", s.Region)
	}
}

// propagation defines the switch and does what does not need the documents.
func (sh *shell) propagation(s *iampolicy.Set) {
	fmt.Fprintf(&sh.b, `
# stopped: the domain cannot be changed while an app runs.
stopped() {
  apps=$(aws sagemaker list-apps --domain-id-equals "$domain" --output text \
    --query %s)
  [ -z "$apps" ] || fail "stop these apps first; nothing was changed:
$apps"
}

switch() {
  stopped
  aws sagemaker update-domain --domain-id "$domain" --domain-settings-for-update "ExecutionRoleIdentityConfig=$1" >"$work/out"
  echo "$domain: ExecutionRoleIdentityConfig is $1"
}

stopped
case $1 in
check)
  echo "$domain: no app is running; it is now set to $(aws sagemaker describe-domain --domain-id "$domain" \
    --query 'DomainSettings.ExecutionRoleIdentityConfig' --output text)"
  exit 0
  ;;
disable)
  # The trust policies may stay: without source identities they let nothing more happen.
  switch DISABLED
  exit 0
  ;;
esac
`, quote(runningApps))
}

func (sh *shell) file(name string, o ordered.Object) {
	text, err := ordered.JSON(o)
	if err != nil && sh.err == nil {
		sh.err = err
	}
	fmt.Fprintf(&sh.b, "\ncat >\"$work/%s\" <<'END'\n%sEND\n", name, text)
}

func (sh *shell) role(s *iampolicy.Set, r iampolicy.Role) {
	sh.file("trust", r.Trust)
	if r.Exists {
		fmt.Fprintf(&sh.b, "existing_role %s\n", quote(r.ARN))
	} else {
		fmt.Fprintf(&sh.b, "made_role %s %s %s\n", quote(r.ARN), quote(r.Path), quote(r.Description))
	}
	if len(r.Tags) > 0 {
		fmt.Fprintf(&sh.b, "aws iam tag-role --role-name %s --tags %s\n", quote(r.Name), quote(tagJSON(r.Tags)))
	}
	for _, p := range r.Inline {
		sh.file("policy", p.Document)
		fmt.Fprintf(&sh.b, "inline %s %s\n", quote(r.Name), quote(p.Name))
	}
	for _, m := range s.Managed {
		for _, name := range m.Roles {
			if name == r.Name {
				fmt.Fprintf(&sh.b, "aws iam attach-role-policy --role-name %s --policy-arn %s\n", quote(name), quote(m.ARN))
			}
		}
	}
	if r.Works {
		fmt.Fprintf(&sh.b, "work_policies %s\n", quote(r.Name))
	}
}

func (sh *shell) profile(s *iampolicy.Set, p iampolicy.Profile) {
	fmt.Fprintf(&sh.b, "\narn=$(aws sagemaker describe-user-profile --domain-id \"$domain\" --user-profile-name %s --query UserProfileArn --output text)\n"+
		"aws sagemaker add-tags --resource-arn \"$arn\" --tags %s >\"$work/out\"\n", quote(p.Name), quote(tagJSON(p.Tags)))
}
