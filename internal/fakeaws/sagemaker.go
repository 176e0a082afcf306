package fakeaws

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// object is a JSON object in SageMaker's spelling.
type object = map[string]any

func (x *exchange) sageMaker() (answer, *wire.Error) {
	if x.call.Protocol != wire.JSON {
		return x.generic(x.scope.Of(x.call))
	}
	switch x.call.Operation {
	case "DescribeNotebookInstance":
		return x.describe(x.describeNotebook, "NotebookInstanceName")
	case "DescribeDomain":
		return x.describe(x.describeDomain, "DomainId")
	case "DescribeUserProfile":
		return x.describe(x.describeProfile, "DomainId", "UserProfileName")
	case "DescribeSpace":
		return x.describe(x.describeSpace, "DomainId", "SpaceName")
	case "ListNotebookInstances":
		return x.describe(x.listNotebooks)
	case "CreatePresignedNotebookInstanceUrl":
		return x.describe(x.presignNotebook, "NotebookInstanceName")
	case "CreateTrainingJob", "CreateProcessingJob":
		return x.createJob(strings.TrimPrefix(x.call.Operation, "Create"))
	}
	return x.generic(x.scope.Of(x.call))
}

// memberPatterns are the patterns of the API model, as its errors print them.
var memberPatterns = map[string]struct {
	pattern *regexp.Regexp
	written string
}{
	"NotebookInstanceName": {regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9])*$`), `[a-zA-Z0-9](-*[a-zA-Z0-9])*`},
	"DomainId":             {regexp.MustCompile(`^d-(-*[a-z0-9]){1,61}$`), `d-(-*[a-z0-9]){1,61}`},
	"UserProfileName":      {regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$`), `[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`},
	"SpaceName":            {regexp.MustCompile(`^[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}$`), `[a-zA-Z0-9](-*[a-zA-Z0-9]){0,62}`},
}

// describe checks the members that an operation requires, then authorises it,
// then runs it: a caller without permission does not learn what exists.
func (x *exchange) describe(run func(Scenario) (object, *wire.Error), required ...string) (answer, *wire.Error) {
	var violations []string
	for _, name := range required {
		member := strings.ToLower(name[:1]) + name[1:]
		value, isText := x.call.Body[name].(string)
		p := memberPatterns[name]
		switch {
		case x.call.Body[name] == nil:
			violations = append(violations, fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", member))
		case !isText:
			return answer{}, &wire.Error{Status: 400, Code: "SerializationException", Message: "Member " + member + " must be a string"}
		case !p.pattern.MatchString(value):
			violations = append(violations, fmt.Sprintf("Value '%s' at '%s' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", value, member, p.written))
		case len(value) > 63:
			violations = append(violations, fmt.Sprintf("Value '%s' at '%s' failed to satisfy constraint: Member must have length less than or equal to 63", value, member))
		}
	}
	if n := len(violations); n > 0 {
		plural := map[bool]string{true: "s"}[n > 1]
		return answer{}, invalid(fmt.Sprintf("%d validation error%s detected: %s", n, plural, strings.Join(violations, "; ")))
	}
	if failure := x.authorize(x.call.Action, x.scope.Of(x.call), nil); failure != nil {
		return answer{}, failure
	}
	result, failure := run(x.current())
	if failure != nil {
		return answer{}, failure
	}
	return x.json(result), nil
}

func invalid(message string) *wire.Error {
	return &wire.Error{Status: 400, Code: "ValidationException", Message: message}
}

func notFound(format string, args ...any) *wire.Error {
	return &wire.Error{Status: 400, Code: "ResourceNotFound", Message: fmt.Sprintf(format, args...)}
}

func (x *exchange) json(result object) answer {
	body, err := json.Marshal(result)
	if err != nil { // strings and numbers only: cannot happen
		x.log.Error("rendering an answer failed")
	}
	contentType := x.call.Type
	if contentType == "" {
		contentType = "application/json"
	}
	return answer{contentType: contentType, body: body}
}

// stamp is a JSON 1.1 timestamp.
func stamp(t time.Time) json.Number {
	return json.Number(fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/1e6))
}

func (x *exchange) roleARN(name string) string {
	if r := x.directory.Role(name); r != nil {
		return r.ARN
	}
	return x.scope.Role("/", name) // deleted since
}

// exampleID is a stable id for a thing that the scenario does not number.
func exampleID(prefix, name string) string {
	sum := sha256.Sum256([]byte(prefix + name))
	return prefix + hex.EncodeToString(sum[:])[:17]
}

func (x *exchange) notebookObject(n scenario.Notebook) object {
	return object{
		"NotebookInstanceArn":    x.scope.SageMaker("notebook-instance/" + n.Name),
		"NotebookInstanceName":   n.Name,
		"NotebookInstanceStatus": "InService",
		"Url":                    n.Name + ".notebook." + x.scope.Region + ".sagemaker.aws",
		"InstanceType":           "ml.t3.medium",
		"CreationTime":           stamp(x.created),
		"LastModifiedTime":       stamp(x.created),
	}
}

func (x *exchange) describeNotebook(s Scenario) (object, *wire.Error) {
	for _, n := range s.Notebooks {
		if n.Name != x.call.Text("NotebookInstanceName") {
			continue
		}
		o := x.notebookObject(n)
		o["RoleArn"] = x.roleARN(n.Role)
		o["NetworkInterfaceId"] = exampleID("eni-", n.Name)
		o["DirectInternetAccess"] = "Enabled"
		o["VolumeSizeInGB"] = 5
		o["RootAccess"] = n.RootAccess
		o["PlatformIdentifier"] = "notebook-al2023-v1"
		o["InstanceMetadataServiceConfiguration"] = object{"MinimumInstanceMetadataServiceVersion": n.MinimumIMDSVersion}
		return o, nil
	}
	return nil, invalid("RecordNotFound")
}

func (x *exchange) listNotebooks(s Scenario) (object, *wire.Error) {
	list := make([]object, 0, len(s.Notebooks))
	for _, n := range s.Notebooks {
		if part := x.call.Text("NameContains"); strings.Contains(n.Name, part) {
			list = append(list, x.notebookObject(n))
		}
	}
	return object{"NotebookInstances": list}, nil
}

func (x *exchange) presignNotebook(s Scenario) (object, *wire.Error) {
	name := x.call.Text("NotebookInstanceName")
	if !slices.ContainsFunc(s.Notebooks, func(n scenario.Notebook) bool { return n.Name == name }) {
		return nil, invalid("RecordNotFound")
	}
	return object{"AuthorizedUrl": "https://" + name + ".notebook." + x.scope.Region + ".sagemaker.aws?authToken=" + newUUID()}, nil
}

// domain returns the domain that the call names.
func (x *exchange) domain(s Scenario) (scenario.Domain, *wire.Error) {
	id := x.call.Text("DomainId")
	if s.Domain == nil || s.Domain.ID != id {
		return scenario.Domain{}, notFound("Domain [%s] does not exist.", id)
	}
	return *s.Domain, nil
}

func (x *exchange) describeDomain(s Scenario) (object, *wire.Error) {
	d, failure := x.domain(s)
	if failure != nil {
		return nil, failure
	}
	o := object{
		"DomainArn":            x.scope.SageMaker("domain/" + d.ID),
		"DomainId":             d.ID,
		"DomainName":           d.Name,
		"Status":               "InService",
		"CreationTime":         stamp(x.created),
		"LastModifiedTime":     stamp(x.created),
		"AuthMode":             "IAM",
		"AppNetworkAccessType": "PublicInternetOnly",
		"HomeEfsFileSystemId":  exampleID("fs-", d.ID),
		"SubnetIds":            []string{exampleID("subnet-", d.ID)},
		"VpcId":                exampleID("vpc-", d.ID),
		"Url":                  "https://" + d.ID + ".studio." + x.scope.Region + ".sagemaker.aws",
		"DefaultUserSettings":  object{"ExecutionRole": x.roleARN(d.UserRole), "StudioWebPortal": "ENABLED"},
		"DefaultSpaceSettings": object{"ExecutionRole": x.roleARN(d.SpaceRole)},
	}
	if d.ExecutionRoleIdentityConfig != "" {
		o["DomainSettings"] = object{"ExecutionRoleIdentityConfig": d.ExecutionRoleIdentityConfig}
	}
	return o, nil
}

func (x *exchange) describeProfile(s Scenario) (object, *wire.Error) {
	d, failure := x.domain(s)
	if failure != nil {
		return nil, failure
	}
	name := x.call.Text("UserProfileName")
	for _, p := range s.Profiles {
		if p.Name != name {
			continue
		}
		o := object{
			"DomainId":             d.ID,
			"UserProfileArn":       x.scope.SageMaker("user-profile/" + d.ID + "/" + p.Name),
			"UserProfileName":      p.Name,
			"HomeEfsFileSystemUid": "200005",
			"Status":               "InService",
			"CreationTime":         stamp(x.created),
			"LastModifiedTime":     stamp(x.created),
		}
		if p.Role != "" {
			o["UserSettings"] = object{"ExecutionRole": x.roleARN(p.Role)}
		}
		return o, nil
	}
	return nil, notFound("UserProfile [%s] does not exist in Domain [%s].", name, d.ID)
}

func (x *exchange) describeSpace(s Scenario) (object, *wire.Error) {
	d, failure := x.domain(s)
	if failure != nil {
		return nil, failure
	}
	name := x.call.Text("SpaceName")
	for _, sp := range s.Spaces {
		if sp.Name != name {
			continue
		}
		o := object{
			"DomainId":             d.ID,
			"SpaceArn":             x.scope.SageMaker("space/" + d.ID + "/" + sp.Name),
			"SpaceName":            sp.Name,
			"HomeEfsFileSystemUid": "200006",
			"Status":               "InService",
			"CreationTime":         stamp(x.created),
			"LastModifiedTime":     stamp(x.created),
			"SpaceSharingSettings": object{"SharingType": sp.Sharing},
			"Url":                  "https://" + d.ID + ".studio." + x.scope.Region + ".sagemaker.aws/spaces/" + sp.Name,
		}
		if sp.Owner != "" {
			o["OwnershipSettings"] = object{"OwnerUserProfileName": sp.Owner}
		}
		for _, app := range s.Apps {
			if app.Space == sp.Name {
				o["SpaceSettings"] = object{"AppType": app.Type}
			}
		}
		return o, nil
	}
	return nil, notFound("Space [%s] does not exist in Domain [%s].", name, d.ID)
}

// createJob starts a job as far as anybody can see: SageMaker must be able to
// assume the job's role, with the caller's source identity if it has one.
func (x *exchange) createJob(noun string) (answer, *wire.Error) {
	name, roleARN := x.call.Text(noun+"Name"), x.call.Text("RoleArn")
	if name == "" || roleARN == "" {
		return answer{}, invalid("1 validation error detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null")
	}
	arn := x.scope.Of(x.call)
	if failure := x.authorize(x.call.Action, arn, nil); failure != nil {
		return answer{}, failure
	}
	if failure := x.authorize("iam:PassRole", roleARN, map[string][]string{"iam:passedtoservice": {sageMakerPrincipal}}); failure != nil {
		return answer{}, failure
	}
	cannot := invalid("Could not assume role " + roleARN + ". Please ensure that the role exists and allows principal '" + sageMakerPrincipal + "' to assume the role.")
	role := x.directory.RoleByARN(roleARN)
	if role == nil {
		return answer{}, cannot
	}
	if _, refused := x.serviceAssume(role.Name, baseSessionName, x.session.SourceIdentity, time.Hour, x.now); refused != nil {
		return answer{}, cannot
	}
	result := object{noun + "Arn": arn}
	done := x.json(result)
	done.elements = wire.Elements(result)
	return done, nil
}
