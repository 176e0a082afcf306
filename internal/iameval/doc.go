// Package iameval decides requests by IAM identity policies and role trust
// policies, and says in words why.
//
// It guarantees: an explicit deny beats an allow, which beats the implicit
// deny; whatever cannot be evaluated (a variable without a value, an ARN that is
// none, a malformed date) never makes an Allow statement with a positive
// condition apply; matching takes at most time proportional to the product of
// the lengths of pattern and text, whatever the policy holds; no panic on any
// document or context. All functions are pure: no clock, no network, no state.
//
// It does not know service control policies, resource control policies,
// permissions boundaries, session policies, VPC endpoint policies, resource
// policies other than role trust, nor which principals and actions exist. A
// request that it allows can therefore still be denied by AWS. It knows no
// wire format and renders no AWS error text.
//
// # Documented AWS behaviour it relies on
//
// IAM user guide, "Condition operators": a missing key fails a positive
// operator, satisfies a negated one and every IfExists; ArnEquals is ArnLike
// and compares the six parts of an ARN one by one. "Resource": wildcards stay
// within a part of the ARN, except in the last (see below). "Set operators": ForAllValues
// holds for an absent or empty key, ForAnyValue does not. "Variables": only in
// version 2012-10-17, in the last part of a Resource ARN and in string and ARN
// conditions; one without a value is null, to which nothing is equal or like, so
// it satisfies a negated operator.
// "Principal": account and account root delegate to the account's identity
// policies; "*" is everybody. "NotPrincipal": account, role and session must
// each be listed to be spared. Role trust policies must explicitly allow even
// the role itself, and sts:SetSourceIdentity is needed on both sides of role
// chaining.
//
// # Choices where AWS documents nothing or too little
//
//   - Of a list of values only the one with a variable without a value is
//     dropped. A variable with several values has none.
//   - ForAnyValue with IfExists fails for an absent key: the set operator goes
//     first, as people have observed on AWS.
//   - A key with several values fails every operator without a set operator.
//   - A * that ends a part of a Resource ARN may match beyond the colon, says
//     IAM. Here it does not: for an ARN with five colons, as all are that this
//     project asks about, the answer is the same. ParseDocument refuses patterns
//     with fewer, which IAM stores in part.
//   - The value of a substituted variable is literal: its * and ? match only
//     themselves.
//   - sts:RoleSessionName is in the context of the sts:AssumeRole decision
//     only; see [AssumeRoleRequest]. sts:SourceIdentity is not in that of
//     sts:TagSession.
//   - sts:SetSourceIdentity is demanded on both sides from users too, where the
//     documentation demands it only of role sessions and across accounts.
//   - Keys and operators compare without letter case, by Unicode folding.
//
// The package is longer than most because it is a language: document.go and
// json.go read it, a file for each of its elements (principal, condition,
// variable, match) says what that means, decide.go and assumerole.go come to
// the decision.
package iameval
