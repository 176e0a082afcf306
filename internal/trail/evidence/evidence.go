// Package evidence collects, from all records of a trail, the few that say something
// about other calls: who was given which credentials, who opened or started a
// notebook, who started a job, which query was granted which table.
//
// It guarantees that memory grows with those records alone (about 200 bytes for each
// credential issued), not with the calls, and that the result does not depend on the
// order of the records. It relies on these parts of CloudTrail's documentation and
// published records: responseElements.credentials.accessKeyId of the STS calls names
// the key that later calls carry in userIdentity.accessKeyId; a refused call has null
// responseElements; lakeFormationRoleSessionName in additionalEventData of
// GetDataAccess is the session name that S3 data events carry; Athena's audit context
// is "{queryId: uuid}", which is not JSON.
package evidence

import (
	"cmp"
	"slices"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
	"github.com/nbidentityd/nbidentityd/internal/trail/calls"
	"github.com/nbidentityd/nbidentityd/internal/trail/record"
)

// Evidence is what was collected, each kind in order of time.
type Evidence struct {
	Issues   []Issue
	Openings []Opening
	Starts   []Start
	Jobs     []Job
	Streams  []Stream
	Queries  []Query
	Grants   []Grant
	Sources  map[string]bool // every source identity that any call carried
}

// Issue is the issue of temporary credentials by STS.
type Issue struct {
	At      int64  // Unix seconds, which is also the session's creationDate
	Key     string // the new access key id
	Role    string // ARN with path, "" when no role was assumed
	Session string // role session name
	Unique  string // AROA...:session
	Source  string // source identity that the new session carries
	Address string // that the call came from
	Region  string
	Caller  *calls.Caller
	ID      string // of the event
}

// Opening is a presigned URL made to open a notebook.
type Opening struct {
	At              int64
	Name            string // of the notebook instance or the user profile
	Account, Region string
	Caller          *calls.Caller
	ID              string
}

// Start is somebody starting a notebook instance, which AWS refuses while it runs.
type Start struct {
	At              int64
	Name            string
	Account, Region string
	ID              string
}

// Job is a SageMaker job or pipeline that somebody started.
type Job struct {
	At         int64
	Kind, Name string // such as training
	ARN, Role  string // "" when unknown
	Caller     *calls.Caller
	ID         string
}

// Stream says that a session wrote the log of a job.
type Stream struct {
	Key string // of the session
	Job string // name of the job
	ID  string
}

// Query is an Athena query that was started.
type Query struct {
	At                            int64
	Query                         string // its id
	Text, WorkGroup, DatabaseName string
	Caller                        *calls.Caller
	ID                            string
}

// Grant is Lake Formation giving a query engine access to a table's data.
type Grant struct {
	At          int64
	Query       string // id of the query, "" when the engine does not tell
	Session     string // role session name of the S3 calls made under it, "" for data locations
	Table       string // ARN
	Permissions string // comma-separated
	CellLevel   bool   // row or column filters applied
	Engine      string // such as ATHENA
	Caller      *calls.Caller
	ID          string
}

// Collector collects evidence; each goroutine has its own.
type Collector struct {
	found   Evidence
	strings map[string]string
	scratch []byte
	callers calls.Callers
}

// NewCollector returns an empty collector.
func NewCollector() *Collector {
	return &Collector{found: Evidence{Sources: make(map[string]bool)}, strings: make(map[string]string)}
}

// Merge returns what all collectors found.
func Merge(collectors ...*Collector) *Evidence {
	all := &Evidence{Sources: make(map[string]bool)}
	for _, c := range collectors {
		all.Issues = append(all.Issues, c.found.Issues...)
		all.Openings = append(all.Openings, c.found.Openings...)
		all.Starts = append(all.Starts, c.found.Starts...)
		all.Jobs = append(all.Jobs, c.found.Jobs...)
		all.Streams = append(all.Streams, c.found.Streams...)
		all.Queries = append(all.Queries, c.found.Queries...)
		all.Grants = append(all.Grants, c.found.Grants...)
		for source := range c.found.Sources {
			all.Sources[source] = true
		}
	}
	slices.SortFunc(all.Issues, func(a, b Issue) int {
		return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID), strings.Compare(a.Key, b.Key))
	})
	slices.SortFunc(all.Openings, func(a, b Opening) int { return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID)) })
	slices.SortFunc(all.Starts, func(a, b Start) int { return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID)) })
	slices.SortFunc(all.Jobs, func(a, b Job) int { return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID)) })
	slices.SortFunc(all.Streams, func(a, b Stream) int { return strings.Compare(a.ID, b.ID) })
	slices.SortFunc(all.Queries, func(a, b Query) int { return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID)) })
	slices.SortFunc(all.Grants, func(a, b Grant) int { return cmp.Or(cmp.Compare(a.At, b.At), strings.Compare(a.ID, b.ID)) })
	return all
}

// Add takes what a record says.
func (k *Collector) Add(r *record.Record) {
	if source := r.Identity.Session.SourceIdentity; len(source) > 0 && !k.found.Sources[string(source)] {
		k.found.Sources[k.keep(source)] = true
	}
	refused := len(r.ErrorCode) > 0
	switch string(r.EventSource) {
	case "sts.amazonaws.com":
		switch string(r.EventName) {
		case "AssumeRole", "AssumeRoleWithSAML", "AssumeRoleWithWebIdentity", "AssumeRoot", "GetSessionToken", "GetFederationToken":
			k.issue(r)
		}
	case "sagemaker.amazonaws.com":
		if refused {
			return
		}
		switch string(r.EventName) {
		case "CreatePresignedNotebookInstanceUrl":
			k.opening(r, "notebookInstanceName")
		case "CreatePresignedDomainUrl":
			k.opening(r, "userProfileName")
		case "CreateNotebookInstance", "StartNotebookInstance":
			if name := k.text(r.RequestParameters, "notebookInstanceName"); name != "" {
				k.found.Starts = append(k.found.Starts, Start{At: r.Time, Name: name, Account: k.keep(r.RecipientAccountID), Region: k.keep(r.AWSRegion), ID: string(r.EventID)})
			}
		default:
			if is, ok := jobs[string(r.EventName)]; ok {
				k.job(r, is)
			}
		}
	case "athena.amazonaws.com":
		if string(r.EventName) == "StartQueryExecution" {
			k.query(r)
		}
	case "lakeformation.amazonaws.com":
		if string(r.EventName) == "GetDataAccess" && !refused {
			k.grant(r)
		}
	case "logs.amazonaws.com":
		if string(r.EventName) == "CreateLogStream" {
			k.stream(r)
		}
	}
}

// keep returns a text in memory that is shared by all equal ones.
func (k *Collector) keep(text []byte) string {
	kept, known := k.strings[string(text)]
	if !known {
		kept = string(text)
		k.strings[kept] = kept
	}
	return kept
}

// text keeps the string at a path inside raw.
func (k *Collector) text(raw []byte, path ...string) string {
	k.scratch = record.AppendString(k.scratch[:0], record.Raw(raw, path...))
	return k.keep(k.scratch)
}

func (k *Collector) issue(r *record.Record) {
	var key, unique, source, asked, session, role []byte // JSON text
	for name, value := range record.Fields(r.ResponseElements) {
		switch string(name) {
		case "credentials":
			key = record.Raw(value, "accessKeyId")
		case "assumedRoleUser":
			unique = record.Raw(value, "assumedRoleId")
		case "sourceIdentity":
			source = value
		}
	}
	if len(key) <= len(`""`) && len(unique) <= len(`""`) {
		return // refused
	}
	for name, value := range record.Fields(r.RequestParameters) {
		switch string(name) {
		case "roleArn":
			role = value
		case "roleSessionName":
			session = value
		case "sourceIdentity":
			asked = value
		}
	}
	issue := Issue{
		At: r.Time, Key: record.String(key), Role: k.text(role), Session: k.text(session), Unique: k.text(unique),
		Source: cmp.Or(k.text(source), k.text(asked)), Address: k.keep(r.SourceIPAddress), Region: k.keep(r.AWSRegion), Caller: k.callers.Of(r), ID: string(r.EventID),
	}
	if _, session, found := strings.Cut(issue.Unique, ":"); found && issue.Session == "" {
		issue.Session = session
	}
	k.found.Issues = append(k.found.Issues, issue)
}

// startsJob says of which kind of job a call is the start, and the keys of its name and
// ARN.
type startsJob struct{ kind, name, arn string }

var jobs = map[string]startsJob{
	"CreateTrainingJob":             {"training", "trainingJobName", "trainingJobArn"},
	"CreateProcessingJob":           {"processing", "processingJobName", "processingJobArn"},
	"CreateTransformJob":            {"transform", "transformJobName", "transformJobArn"},
	"CreateHyperParameterTuningJob": {"tuning", "hyperParameterTuningJobName", "hyperParameterTuningJobArn"},
	"CreateAutoMLJob":               {"AutoML", "autoMLJobName", "autoMLJobArn"},
	"CreateAutoMLJobV2":             {"AutoML", "autoMLJobName", "autoMLJobArn"},
	"StartPipelineExecution":        {"pipeline", "pipelineName", "pipelineExecutionArn"},
}

func (k *Collector) job(r *record.Record, is startsJob) {
	name := record.String(r.RequestParameters, is.name)
	if name == "" {
		name = record.String(r.RequestParameters, "pipelineExecutionDisplayName")
	}
	role := cmp.Or(k.text(r.RequestParameters, "roleArn"), k.text(r.RequestParameters, "trainingJobDefinition", "roleArn"))
	k.found.Jobs = append(k.found.Jobs, Job{
		At: r.Time, Kind: is.kind, Name: name, ARN: record.String(r.ResponseElements, is.arn), Role: role, Caller: k.callers.Of(r), ID: string(r.EventID),
	})
}

func (k *Collector) opening(r *record.Record, key string) {
	if name := k.text(r.RequestParameters, key); name != "" {
		k.found.Openings = append(k.found.Openings, Opening{At: r.Time, Name: name, Account: k.keep(r.RecipientAccountID), Region: k.keep(r.AWSRegion), Caller: k.callers.Of(r), ID: string(r.EventID)})
	}
}

// stream takes the call by which a job's session opens its log, of which the name
// begins with that of the job: /aws/sagemaker/TrainingJobs, job/algo-1-1234.
func (k *Collector) stream(r *record.Record) {
	if len(r.Identity.AccessKeyID) == 0 || !strings.HasPrefix(record.String(r.RequestParameters, "logGroupName"), "/aws/sagemaker/") {
		return
	}
	job, _, found := strings.Cut(record.String(r.RequestParameters, "logStreamName"), "/")
	if found && job != "" {
		k.found.Streams = append(k.found.Streams, Stream{Key: k.keep(r.Identity.AccessKeyID), Job: k.keep([]byte(job)), ID: string(r.EventID)})
	}
}

const maxText = 2000 // bytes of a query's text that are kept

func (k *Collector) query(r *record.Record) {
	id := record.String(r.ResponseElements, "queryExecutionId")
	if id == "" {
		return
	}
	text := record.String(r.RequestParameters, "queryString")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "") + "…"
	}
	k.found.Queries = append(k.found.Queries, Query{
		At: r.Time, Query: strings.ToLower(id), Text: text, WorkGroup: k.text(r.RequestParameters, "workGroup"),
		DatabaseName: k.text(r.RequestParameters, "queryExecutionContext", "database"), Caller: k.callers.Of(r), ID: string(r.EventID),
	})
}

var queryID = lazyregexp.New(`(?i)queryId["']?\s*[:=]\s*["']?([0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12})`)

func (k *Collector) grant(r *record.Record) {
	grant := Grant{
		At: r.Time, ID: string(r.EventID), Caller: k.callers.Of(r),
		Query:     record.String(r.RequestParameters, "querySessionContext", "queryId"),
		Session:   k.text(r.AdditionalEventData, "lakeFormationRoleSessionName"),
		Engine:    k.text(r.AdditionalEventData, "requesterService"),
		Table:     k.text(r.RequestParameters, "tableArn"),
		CellLevel: string(record.Raw(r.RequestParameters, "cellLevelSecurityEnforced")) == "true",
	}
	if match := queryID.FindStringSubmatch(record.String(r.RequestParameters, "auditContext", "additionalAuditContext")); match != nil {
		grant.Query = match[1]
	}
	grant.Query = strings.ToLower(grant.Query)
	var permissions []string
	for permission := range record.Elements(record.Raw(r.RequestParameters, "permissions")) {
		permissions = append(permissions, record.String(permission))
	}
	grant.Permissions = k.keep([]byte(strings.Join(permissions, ",")))
	k.found.Grants = append(k.found.Grants, grant)
}
