package trailgen

import (
	"fmt"

	"github.com/nbidentityd/nbidentityd/internal/trail"
)

// slot makes the records of a quarter of an hour.
func (w *world) slot(slot, slots int) {
	w.slotNow = slot
	begin := w.start + int64(slot)*slotSeconds
	turn := slot / rotation
	for _, n := range w.notebooks {
		at := begin + int64(n.number*4%800) // seconds of its own, so that no two sessions of one name begin together
		if slot%rotation == 0 {
			w.rotate(n, at, turn)
		}
		if slot%2 == 0 {
			w.claim(n, at+20, turn)
		}
		if slot%rotation == 0 {
			w.startUp(n, at, turn)
		}
		for range w.perSlot - 1 + w.random.IntN(3) {
			w.work(at+30+int64(w.random.IntN(60)), n.current, n.address)
		}
		w.scenes(n, at+40, slot)
	}
	w.others(begin)
	if slot == slots/2 {
		w.together(begin)
	}
}

// startUp makes a call with new base credentials before they claim a name: every other
// time because the instance was started, and its script fetches a package.
func (w *world) startUp(n *notebook, at int64, turn int) {
	expect := n.base.direct
	if turn%2 == 0 {
		w.emit(event{
			at: at, by: caller{kind: "IAMUser", user: "ops-admin", key: "AKIAOPSADMINEXAMPLE"}, service: "sagemaker", action: "StartNotebookInstance", address: "203.0.113.9",
			request: fmt.Sprintf(`{"notebookInstanceName":%q}`, n.name), expect: named("user", "ops-admin", trail.RungPrincipal),
		})
		if expect.Shape == "bypass" && !n.forges(turn) && !n.gap {
			expect.Shape = "start-up"
		}
	} else if expect.Shape == "bypass" {
		expect.Shape = "bypass, before a claim"
	}
	w.emit(event{
		at: at + 8, by: n.base.caller, service: "s3", action: "GetObject", address: n.address, expect: expect,
		request: `{"bucketName":"packages","key":"nbidentityd-1.2.3-1.x86_64.rpm"}`,
	})
}

// scenes makes a notebook do something of interest now and then.
func (w *world) scenes(n *notebook, at int64, slot int) {
	switch pick := w.random.IntN(40); {
	case n.kind == climber && pick < 8:
		w.climb(n, at)
	case n.forges(slot/rotation) && n.kind != thief && (slot%rotation == 5 || pick < 8):
		w.forge(n, at)
	case pick < 3 && n.kind != domain:
		w.bypass(n, at)
	case pick < 6:
		w.chain(n, at)
	case pick < 9:
		w.query(n, at)
	case pick < 11:
		w.train(n, at)
	case pick == 11:
		w.abroad(n, at)
	case pick == 12:
		w.open(n, at)
	}
}

// bypass uses the base credentials directly, and to go on from there.
func (w *world) bypass(n *notebook, at int64) {
	w.work(at, n.base, n.address)
	c := w.assume(assume{at: at + 1, by: n.base.caller, address: n.address, to: w.etl, name: n.run(), expect: n.base.direct})
	further := n.base.direct
	further.Shape += ", chained"
	w.work(at+2, &session{caller: c, direct: further, forwarded: further}, n.address)
}

// run is the session name under which the notebooks' work runs. More notebooks than
// there are seconds for use other names.
func (n *notebook) run() string {
	return "etl-run" + []string{"", "-b", "-c", "-d", "-e"}[n.number/200%5]
}

// chain goes on from the attributed session to a role and from there to another, with a
// session name that says nothing. Of some chains the first step is missing.
func (w *world) chain(n *notebook, at int64) {
	from := n.current
	expect := from.direct
	expect.Shape = "chain of three"
	if expect.Rung == trail.RungSessionName || from == n.base && n.kind != domain {
		expect = from.direct // the chain says no more than its beginning
	}
	missing := w.chance(5) && from.caller.source == "" && expect.Name != "" && from != n.base
	first := w.assume(assume{at: at, by: from.caller, address: n.address, to: w.etl, name: n.run(), source: from.caller.source, expect: from.direct, drop: missing})
	if missing {
		expect = unknown("chain with a step missing", trail.UnknownName)
	} else if expect.Rung == trail.RungSessionName {
		expect.Rung = trail.RungKey
	}
	second := w.assume(assume{at: at + 2, by: first, address: n.address, to: w.report, name: fmt.Sprintf("botocore-session-%d", at), source: from.caller.source, expect: expect})
	w.work(at+1, &session{caller: first, direct: expect, forwarded: w.forwardedOf(expect)}, n.address)
	for i := range 2 {
		w.work(at+3+int64(i), &session{caller: second, direct: expect, forwarded: w.forwardedOf(expect)}, n.address)
	}
}

// forwardedOf is what is known when a service calls on for a session of a chain.
func (w *world) forwardedOf(e Expectation) Expectation {
	if e.Rung == trail.RungSource || e.Rung == trail.RungKey {
		e.Rung = trail.RungStart
	}
	return e
}

// query runs an Athena query on a table under Lake Formation. Some grants are known by
// the principal only, some are missing, some sessions served two queries.
func (w *world) query(n *notebook, at int64) {
	s := n.current
	id, lake := w.uuid(), "AWSLF-00-AT-"+account+"-"+w.unique("")
	w.emit(event{
		at: at, by: s.caller, service: "athena", action: "StartQueryExecution", address: n.address, expect: s.direct,
		request:  fmt.Sprintf(`{"queryString":"SELECT region, sum(amount) FROM sales.t%d WHERE day > date '2026-06-01' GROUP BY 1","workGroup":"primary","queryExecutionContext":{"database":"sales"}}`, at%40),
		response: fmt.Sprintf(`{"queryExecutionId":%q}`, id),
	})
	behind := named("Lake Formation", s.direct.Name, trail.RungLakeFormation)
	if s.direct.Name == "" {
		behind = unknown("Lake Formation", s.direct.Reason)
	}
	grant := event{
		at: at + 2, by: s.caller, service: "lakeformation", action: "GetDataAccess", expect: s.forwarded,
		request:    fmt.Sprintf(`{"tableArn":"arn:aws:glue:%s:%s:table/sales/t%d","permissions":["SELECT"],"auditContext":{"additionalAuditContext":"{queryId: %s}"},"cellLevelSecurityEnforced":true}`, region, account, at%40, id),
		additional: fmt.Sprintf(`{"requesterService":"ATHENA","LakeFormationTrustedCallerInvocation":"true","lakeFormationPrincipal":%q,"lakeFormationRoleSessionName":%q}`, w.exec.arn(), lake),
	}
	grant.by.key, grant.by.invokedBy = "", "athena.amazonaws.com"
	if s.forwarded.Rung != trail.RungSource {
		grant.by.source = ""
	}
	switch w.random.IntN(6) {
	case 0:
		grant.drop = true
		behind = unknown("Lake Formation, grant missing", trail.NoGrant)
	case 1: // older records hold nothing but the principal
		grant.by = caller{kind: "AWSAccount", role: w.exec, session: "SageMaker", invokedBy: "athena.amazonaws.com"}
		grant.expect = behind
	case 2:
		if behind.Name == "" {
			break
		}
		rival := w.notebooks[(n.number/20*20)+1]
		if rival == n || rival.current == nil {
			break
		}
		second := grant
		second.by, second.expect = rival.current.caller, rival.current.forwarded
		second.by.key, second.by.source, second.by.invokedBy = "", "", "athena.amazonaws.com"
		second.request = fmt.Sprintf(`{"tableArn":"arn:aws:glue:%s:%s:table/sales/t1","permissions":["SELECT"],"auditContext":{"additionalAuditContext":"{queryId: %s}"}}`, region, account, w.uuid())
		w.emit(second)
		behind = unknown("Lake Formation, session shared", trail.Ambiguous)
	}
	w.emit(grant)
	reader := w.assume(assume{
		at: at + 2, by: caller{kind: "AWSService", invokedBy: "lakeformation.amazonaws.com"}, to: w.dataRole, name: lake, source: "V2." + account + "." + w.exec.id,
		shared: w.uuid(), expect: named("service", "lakeformation.amazonaws.com", trail.RungPrincipal), drop: w.chance(3),
	})
	for i := range 2 {
		w.emit(event{
			at: at + 3, by: reader, service: "s3", action: "GetObject", address: "athena.amazonaws.com", expect: behind,
			request: fmt.Sprintf(`{"bucketName":"lake","key":"sales/t%d/part-%d.parquet"}`, at%40, i),
		})
	}
}

// train starts a job, which runs with credentials that SageMaker hands out.
func (w *world) train(n *notebook, at int64) {
	s := n.current
	n.job++
	name := fmt.Sprintf("%s-train-%d", n.name, n.job)
	arn := "arn:aws:sagemaker:" + region + ":" + account + ":training-job/" + name
	w.emit(event{
		at: at, by: s.caller, service: "sagemaker", action: "CreateTrainingJob", address: n.address, expect: s.direct,
		request: fmt.Sprintf(`{"trainingJobName":%q,"roleArn":%q}`, name, w.jobRole.arn()), response: fmt.Sprintf(`{"trainingJobArn":%q}`, arn),
	})
	c := w.assume(assume{
		at: at + 90, by: caller{kind: "AWSService", invokedBy: "sagemaker.amazonaws.com"}, to: w.jobRole, name: "SageMaker", source: s.caller.source,
		shared: w.uuid(), expect: named("service", "sagemaker.amazonaws.com", trail.RungPrincipal),
	})
	expect := unknown("job", trail.NoClaim)
	switch {
	case s.caller.source != "":
		expect = named("job", s.direct.Name, trail.RungSource)
		if s.direct.Name == "" || s.direct.Name != s.caller.source { // a forged name stays one
			return
		}
	case s.direct.Name != "" && w.chance(2):
		c.scope = arn
		expect = named("job", s.direct.Name, trail.RungJob)
	}
	w.emit(event{
		at: at + 91, by: c, service: "logs", action: "CreateLogStream", address: "10.200.0.1", expect: expect,
		request: fmt.Sprintf(`{"logGroupName":"/aws/sagemaker/TrainingJobs","logStreamName":"%s/algo-1-%d"}`, name, at),
	})
	for i := range 2 {
		w.emit(event{at: at + 92 + int64(i), by: c, service: "s3", action: "GetObject", address: "10.200.0.1", expect: expect, request: `{"bucketName":"data-1","key":"train.csv"}`})
	}
}

// abroad assumes a role of another account: both accounts receive the record, and the
// other's copy does not know the caller.
func (w *world) abroad(n *notebook, at int64) {
	s := n.current
	if s == n.base {
		return
	}
	key, shared := w.unique("ASIA"), w.uuid()
	to := assume{at: at, by: s.caller, address: n.address, to: w.otherRole, name: "partner-run", source: s.caller.source, expect: s.direct, key: key, shared: shared}
	c := w.assume(to)
	to.by = caller{kind: "AWSAccount", role: s.caller.role, session: s.caller.session}
	to.recipient, to.copied, to.expect = other, true, unknown("copy", trail.OtherAccount)
	w.assume(to)
	expect := s.direct
	expect.Shape = "in another account"
	if expect.Rung == trail.RungSessionName {
		expect.Rung = trail.RungKey
	}
	w.emit(event{at: at + 1, by: c, service: "dynamodb", action: "DescribeTable", address: n.address, expect: expect, request: `{"tableName":"orders"}`, recipient: other})
}

// open makes somebody open the notebook in a browser.
func (w *world) open(n *notebook, at int64) {
	user := people[n.number%20]
	w.emit(event{
		at: at, by: caller{kind: "IAMUser", user: user, key: "AKIAOPENEREXAMPLE"}, service: "sagemaker", action: "CreatePresignedNotebookInstanceUrl", address: "203.0.113.7",
		request: fmt.Sprintf(`{"notebookInstanceName":%q,"sessionExpirationDurationInSeconds":1800}`, n.name), expect: named("user", user, trail.RungPrincipal),
	})
}

// others makes the calls that have nothing to do with notebooks, and a user's attempt to
// be one.
func (w *world) others(begin int64) {
	admin := caller{kind: "IAMUser", user: "ops-admin", key: "AKIAOPSADMINEXAMPLE"}
	w.emit(event{at: begin + 5, by: admin, service: "ec2", action: "DescribeInstances", address: "203.0.113.9", request: `{"instancesSet":{}}`, expect: named("user", "ops-admin", trail.RungPrincipal)})
	w.emit(event{at: begin + 6, by: caller{kind: "Root"}, service: "iam", action: "GetAccountSummary", address: "203.0.113.9", expect: named("user", "root of "+account, trail.RungPrincipal)})
	w.emit(event{at: begin + 7, by: caller{invokedBy: "kms.amazonaws.com"}, service: "kms", action: "RotateKey", expect: named("service", "kms.amazonaws.com", trail.RungPrincipal)})
	w.emit(event{at: begin + 8, by: caller{kind: "AWSAccount", user: "stranger"}, service: "s3", action: "GetObject", address: "203.0.113.10", request: `{"bucketName":"public","key":"x"}`, expect: unknown("stranger", trail.OtherAccount)})
	w.emit(event{at: begin + 9, by: admin, service: "sts", action: "AssumeRole", address: "203.0.113.9", failure: "AccessDenied", expect: named("user", "ops-admin", trail.RungPrincipal)})

	service := caller{kind: "AWSService", invokedBy: "rds.amazonaws.com"}
	linked := w.assume(assume{at: begin + 10, by: service, to: w.report, name: "SLRManagement", shared: w.uuid(), expect: named("service", "rds.amazonaws.com", trail.RungPrincipal)})
	linked.key, linked.invokedBy = "", "rds.amazonaws.com" // as real records of service-linked roles
	w.emit(event{at: begin + 11, by: linked, service: "ec2", action: "DescribeSubnets", expect: named("service session", "rds.amazonaws.com", trail.RungStart)})

	victim := w.notebooks[0].name
	c := w.assume(assume{at: begin + 12, by: admin, address: "203.0.113.9", to: w.exec, name: victim, source: victim, expect: named("user", "ops-admin", trail.RungPrincipal)})
	expect := named("impersonated by a user", "ops-admin", trail.RungKey)
	w.work(begin+13, &session{caller: c, direct: expect, forwarded: w.forwardedOf(expect)}, "203.0.113.9")

	w.emit(event{
		at: begin + 14, by: caller{kind: "AssumedRole", role: w.etl, session: fmt.Sprintf("botocore-session-%d", begin), key: w.unique("ASIA"), created: begin - 9*86400},
		service: "s3", action: "ListBuckets", address: "10.9.9.9", expect: unknown("issued before the trail", trail.NoIssue),
	})
}

// together makes two notebooks begin sessions of one name in one second: what a service
// does for one of them may be either's.
func (w *world) together(begin int64) {
	at := begin + 899
	for _, n := range w.notebooks[10:12] {
		s := n.current
		c := w.assume(assume{at: at, by: s.caller, address: n.address, to: w.etl, name: "nightly", expect: s.direct})
		expect := s.direct
		if expect.Rung == trail.RungSessionName {
			expect.Rung = trail.RungKey
		}
		w.emit(event{at: at + 1, by: c, service: "s3", action: "ListBuckets", address: n.address, expect: expect})
		c.key, c.invokedBy = "", "athena.amazonaws.com"
		w.emit(event{at: at + 2, by: c, service: "glue", action: "GetTable", request: `{"name":"t1"}`, expect: unknown("two at once", trail.Ambiguous)})
	}
}
