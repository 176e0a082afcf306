package iampolicy

import (
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy/proof"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// launcher is one powerless role for each notebook and one role for the work.
func (b *builder) launcher() {
	launchers := b.iamARN("role" + b.path + "*")
	work := b.work
	guard := []statement{denyEditing(launchers, work.String()),
		{sid: "DenyPassingLaunchers", effect: "Deny", actions: []string{"iam:PassRole"}, resources: []string{launchers}},
		denyOtherNotebooks()}
	b.jobGuard = guard
	b.set.DaemonRole = work.String()
	b.set.Summary = fmt.Sprintf("%d launcher roles, one for each notebook instance, take their tagged name in role %s", len(b.names), work.Name)
	if len(b.jobRoles) == 0 {
		jobs := identity.RoleARN{Partition: b.partition, Account: b.account, Path: "/", Name: work.Name + "-jobs"}
		b.role(Role{Name: jobs.Name, Path: jobs.Path, ARN: jobs.String(), Works: true, Description: "Role that notebooks pass to SageMaker jobs",
			Trust: document(forSageMaker()), Inline: []Policy{{guardName, document(guard...)}}})
		b.jobCases(jobs.Name)
		b.jobRoles = append(b.jobRoles, jobs)
	} else {
		b.existingJobRoles()
	}
	var jobs []string
	for _, r := range b.jobRoles {
		jobs = append(jobs, r.String())
	}
	tagged := "${aws:PrincipalTag/" + b.tag + "}"
	b.role(Role{
		Name: work.Name, Path: work.Path, ARN: work.String(), Works: true, Description: "Role under which all notebooks work, each by its own name",
		Trust: document(b.trust(when("ArnLike", "aws:PrincipalArn", launchers), when("StringEquals", "", tagged),
			when("StringEquals", "sts:RoleSessionName", tagged),
			when("Null", "aws:PrincipalTag/"+b.tag, "false"),
			when("Null", "aws:SourceIdentity", "true"))...),
		Inline: []Policy{
			{policyName, document(statement{sid: "PassJobRoles", effect: "Allow", actions: []string{"iam:PassRole"}, resources: jobs,
				conditions: []condition{when("StringEquals", "iam:PassedToService", sageMaker)}})},
			{guardName, document(guard...)},
		},
	})
	for _, n := range b.names {
		b.launcherRole(n)
	}
	b.launcherCases()
	job := proof.Caller{Role: b.jobRoles[0].Name, SourceIdentity: b.names[0].session}
	b.try(proof.Abuse, proof.Denied, "a job retags or makes a launcher, passes one, or opens a notebook", "",
		use(job, "iam:TagRole", b.made(b.names[0]).String()), use(job, "iam:CreateRole", b.iamARN("role"+b.path+"new")),
		use(job, "iam:PassRole", b.made(b.names[0]).String(), "iam:PassedToService", sageMaker), use(job, "sagemaker:CreatePresignedNotebookInstanceUrl", "*"))
	b.note("Give the daemon the work role, arn = %q under [role] in its settings, and each notebook instance its launcher, while it is stopped:\naws sagemaker update-notebook-instance --notebook-instance-name NAME --role-arn arn:%s:iam::%s:role%s%sNAME",
		b.set.DaemonRole, b.partition, b.account, b.path, b.prefix)
	b.note("The tag %s of a launcher is the name. Whoever may tag roles under %s (iam:TagRole, iam:UntagRole), make roles there, pass them or change a notebook's role (sagemaker:UpdateNotebookInstance) decides who is who: keep that to administrators. The work role is denied it.", b.tag, b.path)
	b.note("The launchers' permissions are all that root's own scripts on a notebook have. get_execution_role() of the SageMaker SDK returns the launcher, which cannot run jobs: pass %s.", strings.Join(jobs, " or "))
}

// launcherRole may take its name, write its log and stop itself.
func (b *builder) launcherRole(n name) {
	arn := b.made(n)
	var self []string
	for _, s := range lower(n.name) {
		self = append(self, b.sageMakerARN("notebook-instance/"+s))
	}
	b.role(Role{
		Name: arn.Name, Path: arn.Path, ARN: arn.String(), Tags: []Tag{{b.tag, n.session}},
		Description: "Launcher of notebook instance " + n.name,
		// Launchers run no jobs and start in no session that has a source
		// identity, so SageMaker need not set one.
		Trust: document(statement{sid: "SageMaker", effect: "Allow", principal: forSageMaker().principal, actions: []string{assumeRole}}),
		Inline: []Policy{{policyName, document(append([]statement{
			mayAssume("OnlyTheWorkRole", []string{assumeRole, setSource}, b.work.String()),
			{sid: "LifecycleLog", effect: "Allow", actions: logWriting, resources: []string{b.regionalARN("logs", "log-group:/aws/sagemaker/*")}},
			{sid: "OwnNotebook", effect: "Allow", resources: self,
				actions: []string{"sagemaker:DescribeNotebookInstance", "sagemaker:ListTags", "sagemaker:StopNotebookInstance"}},
		}, b.mayFetch()...)...)}},
	})
}

func (b *builder) launcherCases() {
	work, first := b.work.Name, b.names[0]
	var started, own, other, swap []proof.Try
	for i, n := range b.names {
		base := proof.Caller{Role: b.made(n).Name}
		claimed := b.stranger()
		if len(b.names) > 1 {
			claimed = b.names[(i+1)%len(b.names)].session
		}
		started = append(started, proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: base.Role, SessionName: "SageMaker"})
		own = append(own, assume(base, work, n.session, n.session))
		other = append(other, assume(base, work, claimed, claimed))
		swap = append(swap, assume(base, work, claimed, n.session), assume(base, work, n.session, claimed))
	}
	launcher := proof.Caller{Role: b.made(first).Name}
	named := proof.Caller{Role: work, Session: first.session, SourceIdentity: first.session}
	b.try(proof.Intended, proof.Allowed, "SageMaker starts each notebook with its launcher", "", started...)
	b.try(proof.Intended, proof.Allowed, "each notebook takes its own name in the work role", "", own...)
	b.try(proof.Abuse, proof.Denied, "a notebook takes the name of another", "", other...)
	b.try(proof.Abuse, proof.Denied, "a notebook takes only one of session name and source identity from another", "", swap...)
	b.try(proof.Abuse, proof.Denied, "the name as session name only, no source identity", "", assume(launcher, work, first.session, ""))
	b.try(proof.Abuse, proof.Denied, "the name with session tags", "", withTags(assume(launcher, work, first.session, first.session), b.tag, b.stranger()))
	b.try(proof.Abuse, proof.Denied, "a launcher without the tag takes any name", "",
		assume(proof.Caller{Role: "untagged"}, work, first.session, first.session),
		assume(proof.Caller{Role: "untagged"}, work, tagText(b.tag), tagText(b.tag)), assume(proof.Caller{Role: "untagged"}, work, "", ""))
	b.try(proof.Abuse, proof.Denied, "a launcher session begins with a changed tag", "",
		withTags(proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: launcher.Role, SessionName: "SageMaker"}, b.tag, b.stranger()))
	b.try(proof.Abuse, proof.Denied, "a launcher session that already has a source identity takes the name", "",
		assume(proof.Caller{Role: launcher.Role, SourceIdentity: b.stranger()}, work, first.session, first.session),
		assume(proof.Caller{Role: launcher.Role, SourceIdentity: first.session}, work, first.session, first.session))
	b.try(proof.Abuse, proof.Denied, "a role outside the launchers' path, with the tag, takes the name", "", assume(proof.Caller{Role: "tagged outsider"}, work, first.session, first.session))
	b.try(proof.Abuse, proof.Denied, "a named session renews itself, for instance off the notebook", "", assume(named, work, first.session, first.session), assume(named, work, first.session, ""))
	b.try(proof.Abuse, proof.Denied, "a named session, or a launcher, assumes a launcher", "",
		assume(named, launcher.Role, first.session, ""), assume(launcher, launcher.Role, first.session, first.session))
	b.try(proof.Abuse, proof.Denied, "SageMaker starts a notebook or job with the work role itself", "",
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: work, SessionName: "SageMaker"},
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: work, SessionName: "SageMaker", AsSource: first.session})
	b.try(proof.Abuse, proof.Denied, "a launcher works without taking a name", "", use(launcher, "s3:ListAllMyBuckets", "*"), use(launcher, "sagemaker:CreateTrainingJob", "*"))
	b.try(proof.Abuse, proof.Denied, "a launcher stops another notebook", "", use(launcher, "sagemaker:StopNotebookInstance", b.sageMakerARN("notebook-instance/"+b.stranger())))
	b.try(proof.Abuse, proof.Denied, "a named session retags or makes a launcher, or edits the work role", "",
		use(named, "iam:TagRole", b.made(first).String()), use(named, "iam:CreateRole", b.iamARN("role"+b.path+"new")), use(named, "iam:UpdateAssumeRolePolicy", b.work.String()))
	b.try(proof.Abuse, proof.Denied, "a named session gives a launcher to a notebook, or opens another notebook", "",
		use(named, "iam:PassRole", b.made(first).String(), "iam:PassedToService", sageMaker),
		use(named, "sagemaker:UpdateNotebookInstance", "*"), use(named, "sagemaker:CreatePresignedNotebookInstanceUrl", "*"))
	b.try(proof.Intended, proof.Allowed, "a named session works, and passes the job role", "",
		use(named, "s3:ListAllMyBuckets", "*"), use(named, "iam:PassRole", b.jobRoles[0].String(), "iam:PassedToService", sageMaker))
	b.try(proof.Intended, proof.Allowed, "a launcher writes its log and stops its own notebook", "",
		use(launcher, "logs:PutLogEvents", strings.ReplaceAll(b.regionalARN("logs", "log-group:/aws/sagemaker/NotebookInstances:log-stream:x"), ":*:", ":us-east-1:")),
		use(launcher, "sagemaker:StopNotebookInstance", strings.ReplaceAll(b.sageMakerARN("notebook-instance/"+strings.ToLower(first.name)), ":*:", ":us-east-1:")))
	if b.Package != "" {
		b.fetchCase(launcher.Role)
	} else {
		b.try(proof.Pitfall, proof.Denied, "the lifecycle configuration fetches nbidentityd from S3 with the launcher", "name the bucket (option package), unless the package comes another way",
			use(launcher, "s3:GetObject", "arn:"+b.partition+":s3:::example-bucket/nbidentityd.rpm"))
	}
	b.add("untagged", proof.Role{ARN: b.iamARN("role" + b.path + "untagged"), Works: true})
	b.add("tagged outsider", proof.Role{ARN: b.iamARN("role/tagged-outsider"), Works: true, Tags: map[string]string{b.tag: first.session}})
	b.outsiders(work, first.session)
}

// tagText is the policy variable itself, as a name: what IAM would compare
// with if it left an unresolved variable standing. Its signs are not in STS's
// alphabet, but IAM decides, not we.
func tagText(tag string) string { return "${aws:PrincipalTag/" + tag + "}" }

// existingJobRoles gives the administrator's job roles the trust policy that
// jobs of named sessions need.
func (b *builder) existingJobRoles() {
	for _, r := range b.jobRoles {
		b.role(Role{Name: r.Name, Path: r.Path, ARN: r.String(), Exists: true, Works: true, Description: "Role of SageMaker jobs", Trust: document(forSageMaker()),
			Inline: []Policy{{guardName, document(b.jobGuard...)}}})
		b.jobCases(r.Name)
	}
}

func (b *builder) jobCases(role string) {
	b.try(proof.Intended, proof.Allowed, "SageMaker starts a job with role "+role+", under the name of who asked for it", "",
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: role, SessionName: "SageMaker", AsSource: "x1"},
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: role, SessionName: "SageMaker"})
}

// downstream says what else a source identity meets on its way.
func (b *builder) downstream() {
	if b.Mode != Launcher {
		b.existingJobRoles()
	}
	b.note("The policies named %s deny the ways around the names: to sessions of administrators that work under these roles as well. PassRole to SageMaker is left for the roles of these documents only in the modes %s and %s: name every role that jobs use.", guardName, PerNotebook, PerProfile)
	var replaced []string
	for _, r := range b.set.Roles {
		if r.Exists {
			replaced = append(replaced, r.Name)
		}
	}
	if len(replaced) > 0 {
		b.note("The trust policy of each role that exists (%s) is replaced as a whole. Other statements that it has today (for Glue, Lambda, people, …) must be added again; the statement for %s must keep both actions.", strings.Join(replaced, ", "), sageMaker)
	}
	b.note("Every role that a named session passes to a SageMaker job, or assumes itself, must allow sts:SetSourceIdentity beside sts:AssumeRole in its trust policy, or the call fails with AccessDenied or ValidationError: job roles (principal %s), pipeline roles, roles of other accounts; for roles that notebooks assume, also in the notebooks' own policies. Name job roles with the job-role option and they are included here.", sageMaker)
	b.note("Amazon EMR: the cluster's security configuration needs \"PropagateSourceIdentity\": true under AuthorizationConfiguration.IAMConfiguration.ApplicationScopedIAMRoleConfiguration, and the runtime role's trust policy must allow the cluster's instance profile role sts:SetSourceIdentity beside sts:AssumeRole and sts:TagSession.")
	b.note("Policies and reports that look for the session name SageMaker (aws:userid like *:SageMaker) no longer match named sessions.")
}
