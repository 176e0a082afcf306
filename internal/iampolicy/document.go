package iampolicy

import (
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
)

// statement is a policy statement before it is written.
type statement struct {
	sid, effect  string
	principal    ordered.Object
	actions      []string
	notActions   []string
	resources    []string
	notResources []string
	conditions   []condition
}

// condition is one operator on one key; the values are alternatives.
type condition struct {
	operator, key string
	values        []string
}

func when(operator, key string, values ...string) condition { return condition{operator, key, values} }

// document writes statements in the order of AWS's own examples.
func document(statements ...statement) ordered.Object {
	list := make(ordered.List, len(statements))
	for i, s := range statements {
		o := ordered.Object{{Name: "Sid", Value: s.sid}, {Name: "Effect", Value: s.effect}}
		if s.principal != nil {
			o = append(o, ordered.Member{Name: "Principal", Value: s.principal})
		}
		for _, element := range []struct {
			name   string
			values []string
		}{{"Action", s.actions}, {"NotAction", s.notActions}, {"Resource", s.resources}, {"NotResource", s.notResources}} {
			if len(element.values) > 0 {
				o = append(o, ordered.Member{Name: element.name, Value: oneOrMore(element.values)})
			}
		}
		if len(s.conditions) > 0 {
			o = append(o, ordered.Member{Name: "Condition", Value: conditions(s.conditions)})
		}
		list[i] = o
	}
	return ordered.Object{{Name: "Version", Value: "2012-10-17"}, {Name: "Statement", Value: list}}
}

// conditions groups by operator.
func conditions(all []condition) ordered.Object {
	var o ordered.Object
	at := map[string]int{}
	for _, c := range all {
		i, seen := at[c.operator]
		if !seen {
			i = len(o)
			at[c.operator] = i
			o = append(o, ordered.Member{Name: c.operator, Value: ordered.Object{}})
		}
		o[i].Value = append(o[i].Value.(ordered.Object), ordered.Member{Name: c.key, Value: oneOrMore(c.values)})
	}
	return o
}

func oneOrMore(values []string) any {
	if len(values) == 1 {
		return values[0]
	}
	return values
}

const (
	assumeRole     = "sts:AssumeRole"
	setSource      = "sts:SetSourceIdentity"
	tagSession     = "sts:TagSession"
	sageMaker      = "sagemaker.amazonaws.com" // in every partition
	ownSource      = "${aws:SourceIdentity}"   // of the session that calls
	requestSource  = "${sts:SourceIdentity}"   // that the call passes
	profileTag     = "userprofilename"
	studioUserTag  = "studiouserid"
	policyName     = "nbidentity"
	guardName      = "nbidentity-guard"
	denyPolicyName = "nbidentity-deny-unattributed"
)

func (p *plan) iamARN(rest string) string {
	return "arn:" + p.partition + ":iam::" + p.account + ":" + rest
}

// sageMakerARN covers the region of the options, or all.
func (p *plan) sageMakerARN(rest string) string { return p.regionalARN("sagemaker", rest) }

func (p *plan) regionalARN(service, rest string) string {
	region := p.Region
	if region == "" {
		region = "*"
	}
	return "arn:" + p.partition + ":" + service + ":" + region + ":" + p.account + ":" + rest
}

// accountPrincipal is the account, so that a role can be made whose trust
// policy means the role itself; aws:PrincipalArn then says which role.
func (p *plan) accountPrincipal() ordered.Object {
	return ordered.Object{{Name: "AWS", Value: p.iamARN("root")}}
}

// forSageMaker lets SageMaker take the role for notebooks and, with the source
// identity of whoever starts them, for jobs.
func forSageMaker() statement {
	return statement{sid: "SageMaker", effect: "Allow", principal: ordered.Object{{Name: "Service", Value: sageMaker}}, actions: []string{assumeRole, setSource}}
}

// trust is the pair of statements with which a caller takes a name. caller
// says who, source which source identities, more what AssumeRole needs beside.
func (p *plan) trust(caller condition, source condition, more ...condition) []statement {
	source.key = "sts:SourceIdentity"
	return []statement{
		{sid: "NbIdentityAssume", effect: "Allow", principal: p.accountPrincipal(), actions: []string{assumeRole},
			conditions: append([]condition{caller, source}, more...)},
		// sts:RoleSessionName is no key of this action, so it stands alone.
		{sid: "NbIdentitySet", effect: "Allow", principal: p.accountPrincipal(), actions: []string{setSource},
			conditions: []condition{caller, source}},
	}
}

// mayAssume is the identity side of trust.
func mayAssume(sid string, actions []string, roles ...string) statement {
	return statement{sid: sid, effect: "Allow", actions: actions, resources: roles}
}

// mayDiscover is what the daemon asks SageMaker with the base credentials.
func (p *plan) mayDiscover() statement {
	return statement{sid: "NbIdentityDiscover", effect: "Allow",
		actions: []string{"sagemaker:DescribeDomain", "sagemaker:DescribeNotebookInstance", "sagemaker:DescribeSpace", "sagemaker:DescribeUserProfile"},
		resources: []string{p.sageMakerARN("domain/*"), p.sageMakerARN("notebook-instance/*"),
			p.sageMakerARN("space/*"), p.sageMakerARN("user-profile/*")}}
}

// mayFetch is what the lifecycle configuration needs, if the options say where
// it fetches nbidentityd.
func (p *plan) mayFetch() []statement {
	if p.Package == "" {
		return nil
	}
	return []statement{{sid: "NbIdentityPackage", effect: "Allow", actions: []string{"s3:GetObject"}, resources: []string{p.packageARN("*")}}}
}

func (p *plan) packageARN(object string) string {
	return "arn:" + p.partition + ":s3:::" + strings.TrimSuffix(p.Package, "/") + "/" + object
}

// logWriting are the actions by which lifecycle logs are written.
var logWriting = []string{"logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"}

// roleEditing changes what a role is, or who can take it.
var roleEditing = []string{"iam:AttachRolePolicy", "iam:CreateRole", "iam:DeleteRole", "iam:DeleteRolePolicy",
	"iam:DetachRolePolicy", "iam:PutRolePolicy", "iam:TagRole", "iam:UntagRole", "iam:UpdateAssumeRolePolicy"}

func denyEditing(roles ...string) statement {
	return statement{sid: "DenyEditingRoles", effect: "Deny", actions: roleEditing, resources: roles}
}

// denyOtherNotebooks closes the ways to another notebook instance, and to one's
// own without its lifecycle configuration or with another role.
func denyOtherNotebooks() statement {
	return statement{sid: "DenyOtherNotebooks", effect: "Deny", resources: []string{"*"},
		actions: []string{"sagemaker:CreatePresignedNotebookInstanceUrl", "sagemaker:UpdateNotebookInstance", "sagemaker:UpdateNotebookInstanceLifecycleConfig"}}
}

// denyPassing lets SageMaker be given no other roles than these.
func denyPassing(roles ...string) statement {
	return statement{sid: "DenyPassingRoles", effect: "Deny", actions: []string{"iam:PassRole"}, notResources: roles,
		conditions: []condition{when("StringEquals", "iam:PassedToService", sageMaker)}}
}

// unattributedExemptions are the actions that DenyUnattributed leaves to
// sessions without a name, with the reason.
var unattributedExemptions = []struct {
	actions []string
	reason  string
}{
	{[]string{assumeRole, setSource}, "the daemon takes the name with them"},
	{[]string{"sts:GetCallerIdentity"}, "cannot be denied anyway"},
	{logWriting, "lifecycle configurations write their log"},
	{[]string{"sagemaker:DescribeDomain", "sagemaker:DescribeSpace", "sagemaker:DescribeUserProfile"}, "the daemon asks for the owner of a private space and for the execution role"},
	{[]string{"sagemaker:DescribeNotebookInstance"}, "the daemon asks for the execution role; scripts that stop idle notebooks ask for their state"},
	{[]string{"sagemaker:StopNotebookInstance"}, "root's scripts that stop idle notebooks"},
	{[]string{"sagemaker:ListTags"}, "scripts that set environment variables from tags"},
}

func (p *plan) denyUnattributed() []statement {
	s := statement{sid: "DenyUnattributed", effect: "Deny", resources: []string{"*"}, conditions: []condition{
		when("Null", "aws:SourceIdentity", "true"), when("Bool", "aws:ViaAWSService", "false")}}
	for _, e := range unattributedExemptions {
		s.notActions = append(s.notActions, e.actions...)
	}
	if p.Package == "" {
		return []statement{s}
	}
	s.notActions = append(s.notActions, "s3:GetObject")
	objects := statement{sid: "DenyUnattributedObjects", effect: "Deny", actions: []string{"s3:GetObject"},
		notResources: []string{p.packageARN("*")}, conditions: s.conditions}
	return []statement{s, objects}
}

// denyNotes are the exemptions and pitfalls of denyUnattributed.
func (b *builder) denyNotes() {
	var lines []string
	for _, e := range unattributedExemptions {
		lines = append(lines, strings.Join(e.actions, ", ")+" ("+e.reason+")")
	}
	b.note("DenyUnattributed leaves to sessions without a name: %s. Root's own scripts on a notebook that need more should ask the daemon for credentials instead.", strings.Join(lines, "; "))
	if b.Package == "" {
		b.note("DenyUnattributed also denies the lifecycle configuration to fetch nbidentityd from S3 with the base credentials: name the bucket (option package), unless the package comes another way.")
	} else {
		b.note("DenyUnattributed lets the lifecycle configuration read %s, for the package.", b.packageARN("*"))
	}
	if b.Mode == Self {
		b.note("Not for an execution role of Studio: Studio's own pages work with the base session (listing spaces, starting apps, …) and would be denied. There, mode %s names every session without it.", StudioPropagation)
	}
	b.note("DenyUnattributed breaks every use of the role that does not begin in a named notebook session: hosted models and their containers, batch transform, scheduled pipelines, feature store, anything started from the console or by CI with this role. Give those a role of their own. Jobs that a named session starts inherit its name and go on working.")
	b.note("DenyUnattributed spares calls that an AWS service makes for a session (aws:ViaAWSService): whether aws:SourceIdentity is in those requests is not documented. Deploy it last, when the daemon runs everywhere and doctor finds nothing: until then it locks notebooks out.")
}
