package iampolicy

import (
	"fmt"
	"path"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/proof"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// selfTrust is the trust policy of a role that assumes itself under one of the
// names.
func (p *plan) selfTrust(arn string, names []name) ordered.Object {
	operator, session := "StringEquals", requestSource
	var values []string
	for _, n := range names {
		if n.pattern {
			operator = "StringLike"
		}
		values = append(values, n.session)
	}
	if len(values) == 1 && !names[0].pattern {
		session = values[0]
	}
	statements := p.trust(when("ArnEquals", "aws:PrincipalArn", arn), when(operator, "", values...),
		// With several names, the session name must be the source identity.
		when("StringEquals", "sts:RoleSessionName", session),
		// Only the base session may: a named one would renew itself for ever,
		// on any machine.
		when("Null", "aws:SourceIdentity", "true"))
	return document(append([]statement{forSageMaker()}, statements...)...)
}

// selfRole is a role that assumes itself.
func (b *builder) selfRole(arn identity.RoleARN, names []name, guard ordered.Object, r Role) {
	r.Name, r.Path, r.ARN, r.Works = arn.Name, arn.Path, arn.String(), true
	r.Trust = b.selfTrust(r.ARN, names)
	r.Inline = []Policy{
		{policyName, document(append([]statement{mayAssume("NbIdentity", []string{assumeRole, setSource}, r.ARN), b.mayDiscover()}, b.mayFetch()...)...)},
		{guardName, guard},
	}
	if b.DenyUnattributed {
		r.Inline = append(r.Inline, Policy{denyPolicyName, document(b.denyUnattributed()...)})
	}
	b.role(r)
}

// self is one execution role for all.
func (b *builder) self() {
	arn := b.roles[0]
	b.set.Summary = fmt.Sprintf("role %s assumes itself under the name of its notebook or user profile", arn.Name)
	b.jobGuard = []statement{denyEditing(arn.String()), denyOtherNotebooks()}
	b.selfRole(arn, b.names, document(b.jobGuard...),
		Role{Exists: true, Description: "Execution role that takes the name of its notebook"})

	base := proof.Caller{Role: arn.Name}
	var own, other, unlisted []proof.Try
	for i, n := range b.names {
		own = append(own, assume(base, arn.Name, sample(n), sample(n)))
		if next := b.names[(i+1)%len(b.names)]; len(b.names) > 1 {
			other = append(other, assume(base, arn.Name, sample(next), sample(next)))
		}
	}
	if len(other) == 0 && b.names[0].pattern {
		other = []proof.Try{assume(base, arn.Name, another(b.names[0]), another(b.names[0]))}
	}
	for _, stranger := range strangers {
		if !b.listed(stranger) {
			unlisted = append(unlisted, assume(base, arn.Name, stranger, stranger))
		}
	}
	b.try(proof.Intended, proof.Allowed, "a base session takes its own name", "", own...)
	if len(other) > 0 {
		b.try(proof.Abuse, proof.Possible, "a base session takes another name that the role may take",
			"no IAM key tells apart notebooks that share a role: only the operating system's boundary on the notebook (no root, fence) prevents it; modes launcher and per-notebook prevent it by IAM", other...)
	}
	if len(unlisted) > 0 {
		b.try(proof.Abuse, proof.Denied, "a base session takes a name that is not listed", "", unlisted...)
	} else {
		b.try(proof.Abuse, proof.Possible, "a base session takes any name it likes", "the patterns leave out little or nothing", assume(base, arn.Name, strangers[0], strangers[0]))
	}
	b.selfCases(arn.Name, sample(b.names[0]))
	if one, two, found := b.twoNames(); found {
		b.try(proof.Abuse, proof.Denied, "session name of one notebook, source identity of another", "",
			assume(base, arn.Name, one, two), assume(base, arn.Name, two, one))
	}
	b.workCases(arn.Name, arn.String(), sample(b.names[0]))
	for _, r := range b.jobRoles {
		job := proof.Caller{Role: r.Name, SourceIdentity: sample(b.names[0])}
		b.try(proof.Abuse, proof.Denied, "a job with role "+r.Name+" edits the execution role, or opens a notebook", "",
			use(job, "iam:UpdateAssumeRolePolicy", arn.String()), use(job, "sagemaker:CreatePresignedNotebookInstanceUrl", "*"))
	}
	b.note("If the Studio domain sets source identities (ExecutionRoleIdentityConfig=USER_PROFILE_NAME), its sessions cannot take a name by these documents: use mode %s.", StudioPropagation)
	b.note("Jobs, endpoints and pipelines that use role %s keep working: SageMaker may set a source identity on it.", arn.Name)
}

// perNotebook is one role for each notebook.
func (b *builder) perNotebook() {
	b.set.Summary = fmt.Sprintf("%d execution roles, one for each notebook instance, each assumes itself under its one name", len(b.names))
	var jobs []string
	for _, r := range b.jobRoles {
		jobs = append(jobs, r.String())
	}
	b.jobGuard = []statement{denyEditing(b.iamARN("role" + b.path + b.prefix + "*")), denyOtherNotebooks()}
	if len(jobs) > 0 {
		b.jobGuard = append(b.jobGuard, denyPassing(jobs...))
	}
	var own, other, foreign []proof.Try
	for i, n := range b.names {
		arn := b.made(n)
		b.selfRole(arn, []name{n}, document(denyEditing(b.iamARN("role"+b.path+b.prefix+"*")), denyOtherNotebooks(), denyPassing(append([]string{arn.String()}, jobs...)...)),
			Role{Description: "Execution role of notebook instance " + n.name})
		base := proof.Caller{Role: arn.Name}
		own = append(own, assume(base, arn.Name, n.session, n.session))
		claimed := b.stranger()
		if len(b.names) > 1 {
			next := b.names[(i+1)%len(b.names)]
			claimed = next.session
			foreign = append(foreign, assume(base, b.made(next).Name, claimed, claimed))
		}
		other = append(other, assume(base, arn.Name, claimed, claimed))
	}
	b.try(proof.Intended, proof.Allowed, "each notebook takes its own name", "", own...)
	b.try(proof.Abuse, proof.Denied, "a notebook takes the name of another", "", other...)
	if len(foreign) > 0 {
		b.try(proof.Abuse, proof.Denied, "a notebook assumes the role of another, under that one's name", "", foreign...)
	}
	first := b.made(b.names[0])
	b.selfCases(first.Name, b.names[0].session)
	b.workCases(first.Name, first.String(), b.names[0].session)
	session := proof.Caller{Role: first.Name, Session: b.names[0].session, SourceIdentity: b.names[0].session}
	b.try(proof.Abuse, proof.Denied, "a session passes the role of another notebook to a job", "",
		use(session, "iam:PassRole", b.iamARN("role"+b.path+b.prefix+b.stranger()), "iam:PassedToService", sageMaker))
	b.try(proof.Intended, proof.Allowed, "a session passes its own role to a job", "",
		use(session, "iam:PassRole", first.String(), "iam:PassedToService", sageMaker))
	for _, r := range b.jobRoles {
		job := proof.Caller{Role: r.Name, SourceIdentity: b.names[0].session}
		b.try(proof.Abuse, proof.Denied, "a job with role "+r.Name+" edits or passes a notebook's role, or opens a notebook", "",
			use(job, "iam:UpdateAssumeRolePolicy", first.String()), use(job, "iam:PassRole", first.String(), "iam:PassedToService", sageMaker),
			use(job, "sagemaker:CreatePresignedNotebookInstanceUrl", "*"))
	}
	b.note("Give each notebook instance its role, while it is stopped:\naws sagemaker update-notebook-instance --notebook-instance-name NAME --role-arn arn:%s:iam::%s:role%s%sNAME", b.partition, b.account, b.path, b.prefix)
}

// selfCases are the abuses that no role that assumes itself allows.
func (b *builder) selfCases(role, session string) {
	base := proof.Caller{Role: role}
	named := proof.Caller{Role: role, Session: session, SourceIdentity: session}
	b.try(proof.Abuse, proof.Denied, "the name as session name only, no source identity", "", assume(base, role, session, ""))
	b.try(proof.Abuse, proof.Denied, "the name as source identity only, another session name", "", assume(base, role, "SageMaker", session))
	b.try(proof.Abuse, proof.Denied, "a named session renews itself, for instance off the notebook", "",
		assume(named, role, session, session), assume(named, role, session, ""))
	b.try(proof.Abuse, proof.Denied, "a named session changes its name", "", assume(named, role, b.stranger(), b.stranger()))
	b.try(proof.Abuse, proof.Denied, "the name with session tags", "", withTags(assume(base, role, session, session), "team", "x"))
	b.outsiders(role, session)
}

func (b *builder) fetchCase(role string) {
	b.try(proof.Intended, proof.Allowed, "the lifecycle configuration fetches nbidentityd", "", use(proof.Caller{Role: role}, "s3:GetObject", b.packageARN("nbidentityd.rpm")))
}

// outsiders are callers who have no business with a role.
func (b *builder) outsiders(role, session string) {
	b.outsidersOf(role, session, func(what string) string { return what })
}

func (b *builder) outsidersOf(role, session string, of func(string) string) {
	b.add("outsider", proof.Role{ARN: b.iamARN("role/outsider"), Works: true})
	b.add("foreigner", proof.Role{ARN: strings.Replace(b.iamARN("role/foreigner"), b.account, "999999999999", 1), Works: true})
	b.try(proof.Abuse, proof.Denied, of("another role of the account takes the name"), "",
		assume(proof.Caller{Role: "outsider"}, role, session, session), assume(proof.Caller{Role: "outsider", SourceIdentity: session}, role, session, session))
	b.try(proof.Abuse, proof.Denied, of("a role of another account takes the name"), "",
		assume(proof.Caller{Role: "foreigner"}, role, session, session), assume(proof.Caller{Role: "foreigner", SourceIdentity: session}, role, session, session))
	b.try(proof.Abuse, proof.Denied, of("another AWS service takes the role"), "",
		proof.Try{Caller: proof.Caller{Service: "lambda.amazonaws.com"}, Target: role, SessionName: session})
}

// workCases are what sessions of a role that assumes itself do with it.
func (b *builder) workCases(role, arn, session string) {
	base := proof.Caller{Role: role}
	named := proof.Caller{Role: role, Session: session, SourceIdentity: session}
	b.try(proof.Intended, proof.Allowed, "SageMaker starts a job with the role, under the name of who asked for it", "",
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: role, SessionName: "SageMaker", AsSource: session})
	b.try(proof.Intended, proof.Allowed, "a named session works", "", use(named, "s3:ListAllMyBuckets", "*"))
	work := use(base, "s3:ListAllMyBuckets", "*")
	b.try(proof.Abuse, proof.Denied, "a named session retags the role or edits its policies", "",
		use(named, "iam:TagRole", arn), use(named, "iam:UpdateAssumeRolePolicy", arn), use(named, "iam:DeleteRolePolicy", arn))
	b.try(proof.Abuse, proof.Denied, "a session opens another notebook, or takes off the lifecycle configuration", "",
		use(named, "sagemaker:CreatePresignedNotebookInstanceUrl", b.sageMakerARN("notebook-instance/zz-0")),
		use(base, "sagemaker:UpdateNotebookInstance", b.sageMakerARN("notebook-instance/"+strings.ToLower(session))))
	if !b.DenyUnattributed {
		note := "CloudTrail then shows the session name SageMaker; deny-unattributed denies it"
		if b.Mode == PerNotebook {
			note = "CloudTrail then shows the session name SageMaker, but the role is this notebook's alone; deny-unattributed denies it"
		}
		b.try(proof.Abuse, proof.Possible, "a base session works without taking a name", note, work)
		return
	}
	b.try(proof.Abuse, proof.Denied, "a base session works without taking a name", "", work)
	var exempt []proof.Try
	for _, e := range unattributedExemptions {
		for _, action := range e.actions {
			exempt = append(exempt, use(base, action, "*"))
		}
	}
	b.try(proof.Intended, proof.Allowed, "a base session does what is exempt", "", exempt...)
	if b.Package != "" {
		b.fetchCase(role)
		b.try(proof.Abuse, proof.Denied, "a base session reads another object", "", use(base, "s3:GetObject", "arn:"+b.partition+":s3:::zz-other-bucket/data"))
	}
	if b.Mode == Self {
		b.try(proof.Pitfall, proof.Denied, "Studio's own pages list spaces or start an app with the base session", "not for execution roles of Studio: see the notes",
			use(base, "sagemaker:ListSpaces", "*"), use(base, "sagemaker:CreateApp", b.sageMakerARN("app/d-x/x/JupyterLab/default")))
	}
	b.try(proof.Pitfall, proof.Denied, "hosting, batch transform or a scheduled pipeline works with the role", "they have no name and stop working: give them a role of their own",
		use(proof.Caller{Role: role, Session: "SageMaker"}, "s3:GetObject", "arn:"+b.partition+":s3:::example-bucket/model.tar.gz"))
	b.try(proof.Pitfall, proof.Possible, "a service forwards a call of a base session (aws:ViaAWSService)", "exempt on purpose: see the notes",
		use(base, "s3:GetObject", "arn:"+b.partition+":s3:::example-bucket/data", "aws:ViaAWSService", "true"))
	b.denyNotes()
}

// strangers are names that nobody listed, most probably.
var strangers = []string{"mallory-nb", "zz-0", "x_Y.z", "q="}

// listed reports whether a name or pattern covers the session name.
func (p *plan) listed(session string) bool {
	for _, n := range p.names {
		// The alphabet of session names has nothing but * and ? that
		// path.Match treats specially.
		if ok, err := path.Match(n.session, session); ok && err == nil {
			return true
		}
	}
	return false
}

// stranger is a legal session name that nobody listed, if there is one.
func (p *plan) stranger() string {
	for _, s := range strangers {
		if !p.listed(s) {
			return s
		}
	}
	return strangers[0]
}

// twoNames finds two session names that the role may take.
func (p *plan) twoNames() (one, two string, found bool) {
	one = sample(p.names[0])
	for _, n := range p.names {
		for _, two := range []string{sample(n), another(n)} {
			if two != one {
				return one, two, true
			}
		}
	}
	return "", "", false
}

// sample is a session name for n: itself, or one that its pattern matches.
func sample(n name) string { return fill(n, "x1", "q") }

// another is a further session name that the pattern of n matches.
func another(n name) string { return fill(n, "y2", "r") }

func fill(n name, star, one string) string {
	if !n.pattern {
		return n.session
	}
	s := strings.ReplaceAll(strings.ReplaceAll(n.session, "*", star), "?", one)
	if len(s) > 64 || len(s) < 2 {
		s = strings.ReplaceAll(strings.ReplaceAll(n.session, "*", ""), "?", one)
	}
	return s
}

// assume is a try to assume a role with a session name and a source identity.
func assume(c proof.Caller, role, session, source string) proof.Try {
	return proof.Try{Caller: c, Target: role, SessionName: session, AsSource: source}
}

func withTags(t proof.Try, key, value string) proof.Try {
	t.Tags = map[string]string{key: value}
	return t
}

// use is a try of any other action; context holds keys and values in turn.
func use(c proof.Caller, action, resource string, context ...string) proof.Try {
	t := proof.Try{Caller: c, Action: action, Resource: resource, RequestContext: map[string][]string{}}
	for i := 0; i+1 < len(context); i += 2 {
		t.RequestContext[context[i]] = []string{context[i+1]}
	}
	return t
}
