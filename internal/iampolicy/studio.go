package iampolicy

import (
	"fmt"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iameval"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/proof"
	"github.com/nbidentityd/nbidentityd/internal/identity"
)

// denyStudio keeps people from the settings of the domain and of profiles.
func (p *plan) denyStudio() []statement {
	return []statement{
		{sid: "DenyEditingDomain", effect: "Deny", resources: []string{"*"},
			actions: []string{"sagemaker:CreateUserProfile", "sagemaker:DeleteUserProfile", "sagemaker:UpdateDomain", "sagemaker:UpdateUserProfile"}},
		{sid: "DenyRetaggingProfiles", effect: "Deny", actions: []string{"sagemaker:AddTags", "sagemaker:DeleteTags"}, resources: []string{p.sageMakerARN("user-profile/*")}},
	}
}

// denyOtherStudios leaves to a session the profile that key names, and to one
// without the key none: what a variable without a value does in NotResource, in
// clear words.
func (p *plan) denyOtherStudios(key string) []statement {
	open := []string{"sagemaker:CreatePresignedDomainUrl"}
	return []statement{
		{sid: "DenyOtherProfiles", effect: "Deny", actions: open, notResources: []string{p.sageMakerARN("user-profile/*/${" + key + "}")}},
		{sid: "DenyProfilesToUnnamed", effect: "Deny", actions: open, resources: []string{"*"}, conditions: []condition{when("Null", key, "true")}},
	}
}

// propagation is for a domain that sets the profile's name as source identity.
func (b *builder) propagation() {
	b.set.Summary = fmt.Sprintf("domain %s sets the profile's name as source identity; the daemon takes the same name as session name", b.DomainID)
	var arns []string
	for _, arn := range b.roles {
		arns = append(arns, arn.String())
	}
	b.jobGuard = slices.Concat([]statement{denyEditing(arns...)}, b.denyStudio(), b.denyOtherStudios("aws:SourceIdentity"))
	for _, arn := range b.roles {
		b.role(Role{
			Name: arn.Name, Path: arn.Path, ARN: arn.String(), Exists: true, Works: true, Description: "Execution role of domain " + b.DomainID,
			Trust: document(append([]statement{forSageMaker()}, b.trust(
				when("ArnEquals", "aws:PrincipalArn", arn.String()), when("StringEquals", "", ownSource),
				when("StringEquals", "sts:RoleSessionName", ownSource),
				when("Null", "aws:SourceIdentity", "false"),
				// Only SageMaker's own session may, or a named one would renew
				// itself for ever, on any machine: here all have a source identity.
				when("StringLike", "aws:userid", "*:SageMaker"))...)...),
			Inline: []Policy{
				{policyName, document(append([]statement{mayAssume("NbIdentity", []string{assumeRole, setSource}, arn.String()), b.mayDiscover()}, b.mayFetch()...)...)},
				{guardName, document(b.jobGuard...)},
			},
		})
		b.propagationCases(arn)
	}
	b.studioJobCases(b.roles[0].String())
	b.note("The switch can only be turned while no app of the domain is InService or Pending: stop all apps of all profiles and spaces first. The shell script (format cli) checks this, deploys the trust policies before it turns the switch, and turns it off again with the word disable.")
	b.note("SageMaker sets no source identity in shared spaces: their sessions stay without a name, and the person at the keyboard cannot be known.")
	b.note("AWS documents the switch for Studio Classic. In a new space, look at the first CloudTrail records before you rely on it.")
	b.note("Profiles with capitals in their names cannot open their own Studio from inside a notebook (SageMaker drops capitals in ARNs); from outside nothing changes.")
}

// studioJobCases are what jobs under a job role of the administrator may not.
func (b *builder) studioJobCases(edited string) {
	for _, r := range b.jobRoles {
		job := proof.Caller{Role: r.Name, SourceIdentity: "alice"}
		b.try(proof.Abuse, proof.Denied, "a job with role "+r.Name+" edits a role, the domain or a profile, or opens another profile's Studio", "",
			use(job, "iam:UpdateAssumeRolePolicy", edited), use(job, "sagemaker:UpdateDomain", "*"),
			use(job, "sagemaker:AddTags", b.sageMakerARN("user-profile/d-x/x")),
			use(job, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/bob")),
			use(proof.Caller{Role: r.Name}, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/bob")))
	}
}

func (b *builder) propagationCases(arn identity.RoleARN) {
	role := arn.Name
	base := proof.Caller{Role: role, SourceIdentity: "alice"}
	shared := proof.Caller{Role: role}
	named := proof.Caller{Role: role, Session: "alice", SourceIdentity: "alice"}
	of := func(what string) string {
		if len(b.roles) == 1 {
			return what
		}
		return role + ": " + what
	}
	b.try(proof.Intended, proof.Allowed, of("SageMaker starts an app or a job under a profile's name"), "",
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: role, SessionName: "SageMaker", AsSource: "alice"})
	b.try(proof.Intended, proof.Allowed, of("a profile's base session takes the profile's name as session name"), "",
		assume(base, role, "alice", "alice"), assume(base, role, "alice", ""))
	b.try(proof.Abuse, proof.Denied, of("a base session takes the name of another profile"), "", assume(base, role, "bob", "bob"), assume(base, role, "bob", "alice"), assume(base, role, "alice", "bob"), assume(base, role, "bob", ""))
	b.try(proof.Abuse, proof.Denied, of("a named session renews itself, for instance off the app"), "", assume(named, role, "alice", "alice"), assume(named, role, "alice", ""))
	b.try(proof.Abuse, proof.Denied, of("a named session changes its name"), "", assume(named, role, "bob", "bob"))
	b.try(proof.Abuse, proof.Denied, of("a session of a shared space, which has no source identity, takes a name"), "", assume(shared, role, "alice", "alice"), assume(shared, role, "alice", ""))
	b.try(proof.Abuse, proof.Denied, of("the name with session tags"), "", withTags(assume(base, role, "alice", "alice"), "team", "x"))
	b.try(proof.Abuse, proof.Denied, of("a session edits its role, turns the switch off, or changes a profile's role"), "",
		use(named, "iam:UpdateAssumeRolePolicy", arn.String()), use(base, "sagemaker:UpdateDomain", b.sageMakerARN("domain/"+b.DomainID)), use(base, "sagemaker:UpdateUserProfile", "*"),
		use(base, "sagemaker:AddTags", b.sageMakerARN("user-profile/"+b.DomainID+"/alice")))
	b.try(proof.Abuse, proof.Denied, of("a session opens the Studio of another profile"), "",
		use(shared, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/"+b.DomainID+"/bob")), use(named, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/"+b.DomainID+"/bob")))
	b.try(proof.Pitfall, proof.Possible, of("a base session works without taking the session name"),
		"harmless: the source identity names the profile; only the session name stays SageMaker", use(base, "s3:ListAllMyBuckets", "*"))
	b.try(proof.Pitfall, proof.Possible, of("a session of a shared space works without a name"), "SageMaker sets no source identity there", use(shared, "s3:ListAllMyBuckets", "*"))
	b.outsidersOf(role, "alice", of)
}

// catalogReading is what the published layout gives profiles of Glue; Lake
// Formation decides which tables and columns.
var catalogReading = []string{"glue:GetDatabase", "glue:GetDatabases", "glue:GetPartitions", "glue:GetTable", "glue:GetTables", "glue:SearchTables"}

// perProfile is the published layout for Lake Formation: a role for each
// profile, taken here from the one execution role that the profiles share.
func (b *builder) perProfile() {
	shared := b.roles[0]
	all := b.iamARN("role" + b.path + b.prefix + "*")
	b.set.Summary = fmt.Sprintf("%d profiles share role %s, from which each takes its own role %s{name}", len(b.names), shared.Name, b.prefix)
	guard := append([]statement{
		// The blanket Deny of the published layout, with the hole that the
		// daemon needs and no larger.
		{sid: "DenyAssumingOtherRoles", effect: "Deny", actions: []string{assumeRole}, notResources: []string{all}},
		{sid: "DenyPassingProfileRoles", effect: "Deny", actions: []string{"iam:PassRole"}, resources: []string{all}},
		denyEditing(all, shared.String()),
	}, b.denyStudio()...)
	b.jobGuard = slices.Concat([]statement{guard[1], guard[2]}, b.denyStudio(), b.denyOtherStudios("aws:SourceIdentity"))
	if b.Propagated {
		guard = append(guard, b.denyOtherStudios("aws:SourceIdentity")...)
	}
	b.role(Role{
		Name: shared.Name, Path: shared.Path, ARN: shared.String(), Exists: true, Works: true, Description: "Execution role that user profiles share",
		Trust: document(forSageMaker()),
		Inline: []Policy{
			{policyName, document(append([]statement{mayAssume("ProfileRoles", []string{assumeRole, setSource, tagSession}, all), b.mayDiscover()}, b.mayFetch()...)...)},
			{guardName, document(guard...)},
		},
	})
	var made []string
	for _, n := range b.names {
		b.profileRole(shared, n)
		made = append(made, b.made(n).Name)
	}
	b.profilePolicies(shared, all, made)
	b.profileCases(shared)
	b.studioJobCases(b.made(b.names[0]).String())
	for _, r := range b.jobRoles {
		b.try(proof.Abuse, proof.Denied, "a job with role "+r.Name+" gives a profile's role to another job", "",
			use(proof.Caller{Role: r.Name, SourceIdentity: "alice"}, "iam:PassRole", b.made(b.names[0]).String(), "iam:PassedToService", sageMaker))
	}
	b.profileNotes(shared)
}

// profileTags are the tags of a profile, as tags of its role, as session tags
// and, the latter alone, as tag of the user profile.
func (b *builder) profileTags(n name) []Tag {
	id := b.UserIDs[n.name]
	if id == "" {
		id = n.name
	}
	return []Tag{{profileTag, n.name}, {studioUserTag, id}}
}

func (b *builder) profileRole(shared identity.RoleARN, n name) {
	arn, tags := b.made(n), b.profileTags(n)
	caller := when("ArnEquals", "aws:PrincipalArn", shared.String())
	unnamed := when("Null", "aws:SourceIdentity", "true")
	if b.Propagated {
		unnamed = when("StringEquals", "aws:SourceIdentity", n.session)
	}
	statements := append([]statement{forSageMaker()}, b.trust(caller, when("StringEquals", "", n.session),
		when("StringEquals", "sts:RoleSessionName", n.session), unnamed)...)
	tagging := statement{sid: "NbIdentityTag", effect: "Allow", principal: b.accountPrincipal(), actions: []string{tagSession},
		conditions: []condition{caller}}
	// A session tag replaces the role's: only these keys, with these values.
	for _, t := range tags {
		tagging.conditions = append(tagging.conditions, when("StringEqualsIfExists", "aws:RequestTag/"+t.Key, t.Value))
	}
	tagging.conditions = append(tagging.conditions, when("ForAllValues:StringEquals", "aws:TagKeys", profileTag, studioUserTag))
	b.role(Role{Name: arn.Name, Path: arn.Path, ARN: arn.String(), Works: true, Tags: tags,
		Description: "Role of user profile " + n.name, Trust: document(append(statements, tagging)...)})
	b.set.Profiles = append(b.set.Profiles, Profile{n.name, tags[1:]})
}

// profilePolicies are the profile roles' policy and the people's.
func (b *builder) profilePolicies(shared identity.RoleARN, all string, made []string) {
	own := b.iamARN("role" + b.path + b.prefix + "${aws:PrincipalTag/" + profileTag + "}")
	passable := []string{own}
	for _, r := range b.jobRoles {
		passable = append(passable, r.String())
	}
	profile := slices.Concat([]statement{
		{sid: "LakeFormation", effect: "Allow", actions: []string{"lakeformation:GetDataAccess"}, resources: []string{"*"}},
		{sid: "Catalog", effect: "Allow", actions: catalogReading,
			resources: []string{b.regionalARN("glue", "catalog"), b.regionalARN("glue", "database/*"), b.regionalARN("glue", "table/*")}},
		{sid: "DenyAssumingRoles", effect: "Deny", actions: []string{assumeRole}, resources: []string{"*"}},
		denyPassing(passable...),
		denyEditing(all, shared.String()),
	}, b.denyStudio(), b.denyOtherStudios("aws:PrincipalTag/"+profileTag))
	signIn := []string{"sagemaker:CreatePresignedDomainUrl", "sagemaker:DescribeUserProfile"}
	key, value := "sagemaker:ResourceTag/"+studioUserTag, "${aws:PrincipalTag/"+studioUserTag+"}"
	people := document(
		statement{sid: "OwnProfile", effect: "Allow", actions: signIn, resources: []string{b.sageMakerARN("user-profile/*")},
			conditions: []condition{when("StringEquals", key, value)}},
		statement{sid: "DenyOtherProfiles", effect: "Deny", actions: signIn, resources: []string{"*"}, conditions: []condition{when("StringNotEquals", key, value)}},
		statement{sid: "DenyPeopleWithoutTag", effect: "Deny", actions: signIn, resources: []string{"*"},
			conditions: []condition{when("Null", "aws:PrincipalTag/"+studioUserTag, "true")}},
		statement{sid: "DenyRetaggingProfiles", effect: "Deny", actions: []string{"sagemaker:AddTags", "sagemaker:DeleteTags"}, resources: []string{b.sageMakerARN("user-profile/*")}})
	b.set.Managed = append(b.set.Managed,
		ManagedPolicy{Name: "nbidentity-profile-" + shared.Name, ARN: b.iamARN("policy/nbidentity-profile-" + shared.Name), Description: "What every role of a user profile may and may not", Document: document(profile...), Roles: made},
		ManagedPolicy{Name: "nbidentity-studio-user-" + shared.Name, ARN: b.iamARN("policy/nbidentity-studio-user-" + shared.Name), Description: "For people: open the Studio profile whose studiouserid is theirs", Document: people})
}

func (b *builder) profileCases(shared identity.RoleARN) {
	base := func(n name) proof.Caller {
		c := proof.Caller{Role: shared.Name}
		if b.Propagated {
			c.SourceIdentity = n.session
		}
		return c
	}
	first := b.names[0]
	var own, tagged, other, misnamed []proof.Try
	for i, n := range b.names {
		role := b.made(n).Name
		try := assume(base(n), role, n.session, n.session)
		own = append(own, try)
		try.Tags = map[string]string{}
		for _, t := range b.profileTags(n) {
			try.Tags[t.Key] = t.Value
		}
		tagged = append(tagged, try)
		misnamed = append(misnamed, assume(base(n), role, b.stranger(), b.stranger()), assume(base(n), role, n.session, b.stranger()), assume(base(n), role, b.stranger(), n.session))
		if len(b.names) > 1 {
			next := b.names[(i+1)%len(b.names)]
			other = append(other, assume(base(n), b.made(next).Name, next.session, next.session))
		}
	}
	role := b.made(first)
	named := proof.Caller{Role: role.Name, Session: first.session, SourceIdentity: first.session}
	b.try(proof.Intended, proof.Allowed, "SageMaker starts an app with the shared role", "",
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: shared.Name, SessionName: "SageMaker"},
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: shared.Name, SessionName: "SageMaker", AsSource: first.session})
	b.try(proof.Intended, proof.Allowed, "each profile takes its role under its own name", "", own...)
	b.try(proof.Intended, proof.Allowed, "… with the session tags "+profileTag+" and "+studioUserTag, "", tagged...)
	if want, note := proof.Possible, "the shared role may take any profile's role, and no IAM key tells its sessions apart; with ExecutionRoleIdentityConfig=USER_PROFILE_NAME on the domain and the option propagated, IAM denies it"; len(other) > 0 {
		if b.Propagated {
			want, note = proof.Denied, ""
		}
		b.try(proof.Abuse, want, "a base session takes the role and name of another profile", note, other...)
	}
	if b.Propagated {
		b.try(proof.Abuse, proof.Denied, "a session of a shared space, which has no source identity, takes a profile's role", "", assume(proof.Caller{Role: shared.Name}, role.Name, first.session, first.session))
	}
	b.try(proof.Abuse, proof.Denied, "a profile's role under another name", "", misnamed...)
	b.try(proof.Abuse, proof.Denied, "a profile's role with a changed or further session tag", "",
		withTags(own[0], profileTag, b.stranger()), withTags(own[0], studioUserTag, b.stranger()), withTags(own[0], "UserProfileName", first.name), withTags(own[0], "team", "x"))
	if !b.Propagated {
		b.try(proof.Abuse, proof.Denied, "the name as session name only, no source identity", "", assume(base(first), role.Name, first.session, ""))
		b.try(proof.Abuse, proof.Denied, "a job that runs with the shared role, under a profile's name, takes the profile's role", "",
			assume(proof.Caller{Role: shared.Name, SourceIdentity: first.session}, role.Name, first.session, first.session))
	}
	b.try(proof.Abuse, proof.Denied, "a base session assumes a role that is no profile's", "", use(base(first), assumeRole, b.iamARN("role/other")))
	b.try(proof.Abuse, proof.Denied, "a named session renews itself, goes back to the shared role or on to another role", "",
		assume(named, role.Name, first.session, first.session), assume(named, shared.Name, first.session, first.session), use(named, assumeRole, b.iamARN("role/other")))
	b.profileWork(shared, base(first), named)
	b.outsiders(role.Name, first.session)
}

// profileWork is what profiles, people and the published Deny do.
func (b *builder) profileWork(shared identity.RoleARN, base, named proof.Caller) {
	role := b.made(b.names[0])
	stranger := b.iamARN("role" + b.path + b.prefix + b.stranger())
	b.try(proof.Abuse, proof.Denied, "a session gives another profile's role to a job, and works as that profile there",
		"the hole of the published layout: its Deny sts:AssumeRole does not cover iam:PassRole, which it allows on every role",
		use(named, "iam:PassRole", stranger, "iam:PassedToService", sageMaker), use(base, "iam:PassRole", stranger, "iam:PassedToService", sageMaker))
	b.try(proof.Intended, proof.Allowed, "a named session works, and gives its own role to a job", "",
		use(named, "lakeformation:GetDataAccess", "*"), use(named, "iam:PassRole", role.String(), "iam:PassedToService", sageMaker))
	b.try(proof.Intended, proof.Allowed, "SageMaker starts a job with a profile's role, under the profile's name", "",
		proof.Try{Caller: proof.Caller{Service: sageMaker}, Target: role.Name, SessionName: "SageMaker", AsSource: named.SourceIdentity})
	b.try(proof.Abuse, proof.Denied, "a session edits roles, profiles or the domain, or retags a profile", "",
		use(named, "iam:TagRole", role.String()), use(base, "iam:UpdateAssumeRolePolicy", role.String()), use(named, "sagemaker:UpdateDomain", "*"),
		use(base, "sagemaker:AddTags", b.sageMakerARN("user-profile/d-x/x")),
		use(base, "sagemaker:UpdateUserProfile", "*"), use(named, "sagemaker:AddTags", b.sageMakerARN("user-profile/d-x/x")))
	b.try(proof.Abuse, proof.Denied, "a named session opens the Studio of another profile", "",
		use(proof.Caller{Role: "untagged", Session: named.Session, SourceIdentity: named.SourceIdentity}, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/x")), use(named, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/"+b.stranger())))
	open := use(base, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/"+b.stranger()))
	if b.Propagated {
		b.try(proof.Abuse, proof.Denied, "a base session opens the Studio of another profile", "", open,
			use(proof.Caller{Role: shared.Name}, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/x")))
	} else {
		b.try(proof.Abuse, proof.Possible, "a base session opens the Studio of another profile", "if anything attached to "+shared.Name+" allows sagemaker:CreatePresignedDomainUrl; its sessions cannot be told apart here either", open)
	}
	b.try(proof.Pitfall, proof.Denied, "the daemon takes a profile's role while the shared role has the published Deny sts:AssumeRole on *",
		"nothing can be named then: replace it by DenyAssumingOtherRoles of these documents",
		proof.Try{Caller: proof.Caller{Role: "blanket", SourceIdentity: base.SourceIdentity}, Target: role.Name, SessionName: named.Session, AsSource: named.SourceIdentity})
	person, tag := proof.Caller{Role: "person", Session: "signed-in"}, "sagemaker:ResourceTag/"+studioUserTag
	b.try(proof.Intended, proof.Allowed, "a person opens the profile with the person's own "+studioUserTag, "", use(person, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/x"), tag, "person@example.com"))
	b.try(proof.Abuse, proof.Denied, "a person opens another's profile or one without the tag, or retags a profile", "",
		use(person, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/x"), tag, "other@example.com"), use(person, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/x")),
		use(person, "sagemaker:AddTags", b.sageMakerARN("user-profile/d-x/x")))
	b.try(proof.Abuse, proof.Denied, "a person without the tag opens a profile", "", use(proof.Caller{Role: "nobody", Session: "signed-in"}, "sagemaker:CreatePresignedDomainUrl", b.sageMakerARN("user-profile/d-x/x"), tag, "other@example.com"))
	b.try(proof.Abuse, proof.Possible, "a base session works without taking a profile's role",
		"with whatever is attached to "+shared.Name+" besides these documents: attach only what Studio itself needs", use(base, "s3:ListAllMyBuckets", "*"))
}

// addVariants puts roles into the world that are made from the set's own.
func (b *builder) addVariants() {
	if b.Mode != PerProfile {
		return
	}
	blanket := b.world[b.roles[0].Name]
	blanket.Policies = append([]iameval.Policy{}, blanket.Policies...)
	blanket.Policies = append(blanket.Policies, iameval.Policy{Name: "published", Document: iameval.Document{Version: iameval.Version2012,
		Statements: []iameval.Statement{{Sid: "DenyAssummingOtherIAMRoles", Effect: iameval.Deny, Actions: []string{assumeRole}, Resources: []string{"*"}}}}})
	b.add("blanket", blanket)
	untagged := b.world[b.made(b.names[0]).Name]
	untagged.Tags = nil
	b.add("untagged", untagged)
	var people []iameval.Policy
	for _, m := range b.set.Managed {
		if len(m.Roles) == 0 {
			d, _ := parse(m.Document, iameval.Document.CheckIdentity) // Generate has parsed it
			people = append(people, iameval.Policy{Name: m.Name, Document: d})
		}
	}
	b.add("person", proof.Role{ARN: b.iamARN("role/person"), Works: true, Policies: people, Tags: map[string]string{studioUserTag: "person@example.com"}})
	b.add("nobody", proof.Role{ARN: b.iamARN("role/nobody"), Works: true, Policies: people})
}

func (b *builder) profileNotes(shared identity.RoleARN) {
	b.set.DaemonRole = strings.Replace(b.made(name{name: "{name}"}).String(), b.account, "{account}", 1)
	b.note("Settings of the daemon: under [role], arn = %q. Session tags there are optional: each role carries its tags; if they are sent, they must have the role's values.", b.set.DaemonRole)
	b.note("The published layout for Lake Formation attaches Deny sts:AssumeRole on every role to the profiles' roles. On the role that the daemon begins with, %s, it denies the daemon as well, and nothing is named. These documents cut the smallest hole: %s may assume roles called %s* and no other. Through that hole any base session can take any profile's role and name, unless the domain sets source identities (option propagated).", shared.Name, shared.Name, b.prefix)
	b.note("The published Deny does not close what it seems to: it says nothing of iam:PassRole, which the same policy allows on every role, so a profile can give another profile's role to a job and work there as the other; and its sagemaker:AddTags on every resource lets people move the %s tag. Both are denied here.", studioUserTag)
	b.note("In Lake Formation, grant tables and columns to the roles %s{name}. Tag each user profile with %s, and attach nbidentity-studio-user-%s to the people, whose own tag %s comes from the identity provider.", b.prefix, studioUserTag, shared.Name, studioUserTag)
	if b.Propagated {
		b.note("These documents need ExecutionRoleIdentityConfig=USER_PROFILE_NAME on the domain: see mode %s. Without it no profile's role can be taken.", StudioPropagation)
	}
}
