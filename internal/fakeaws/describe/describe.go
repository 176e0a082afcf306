// Package describe answers the read calls of the SageMaker API from a
// scenario, in the API's own shapes.
//
// It relies on the SageMaker API reference for members, patterns and limits,
// and answers what does not exist as SageMaker does: ValidationException
// "RecordNotFound" for a notebook instance, ResourceNotFound for the rest.
// Whether a call is allowed is the caller's business, to be settled between
// [Check] and [View.Answer].
package describe

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"time"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/resource"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/scenario"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// Object is a JSON object in SageMaker's spelling.
type Object = map[string]any

// View is an account as SageMaker shows it.
type View struct {
	Scenario scenario.Scenario
	Scope    resource.Scope
	Created  time.Time                // of everything in it
	RoleARN  func(name string) string // with the role's path
}

// operation is one API operation.
type operation struct {
	required []string
	run      func(View, *wire.Call) (Object, *wire.Error)
}

func operationNamed(name string) (operation, bool) {
	o, ok := map[string]operation{
		"DescribeNotebookInstance":           {[]string{"NotebookInstanceName"}, View.describeNotebook},
		"DescribeDomain":                     {[]string{"DomainId"}, View.describeDomain},
		"DescribeUserProfile":                {[]string{"DomainId", "UserProfileName"}, View.describeProfile},
		"DescribeSpace":                      {[]string{"DomainId", "SpaceName"}, View.describeSpace},
		"ListNotebookInstances":              {nil, View.listNotebooks},
		"CreatePresignedNotebookInstanceUrl": {[]string{"NotebookInstanceName"}, View.presignNotebook},
	}[name]
	return o, ok
}

// Knows reports whether c is an operation of this package.
func Knows(c *wire.Call) bool {
	_, ok := operationNamed(c.Operation)
	return ok && c.Protocol == wire.JSON
}

// Answer runs an operation that Knows has accepted.
func (v View) Answer(c *wire.Call) (Object, *wire.Error) {
	o, _ := operationNamed(c.Operation)
	return o.run(v, c)
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

// Check validates the members that c's operation requires.
func Check(c *wire.Call) *wire.Error {
	o, _ := operationNamed(c.Operation)
	var violations []string
	for _, name := range o.required {
		member := strings.ToLower(name[:1]) + name[1:]
		value, isText := c.Body[name].(string)
		p := memberPatterns[name]
		switch {
		case c.Body[name] == nil:
			violations = append(violations, fmt.Sprintf("Value null at '%s' failed to satisfy constraint: Member must not be null", member))
		case !isText:
			return &wire.Error{Status: 400, Code: "SerializationException", Message: "Member " + member + " must be a string"}
		case !p.pattern.MatchString(value):
			violations = append(violations, fmt.Sprintf("Value '%s' at '%s' failed to satisfy constraint: Member must satisfy regular expression pattern: %s", value, member, p.written))
		case len(value) > 63:
			violations = append(violations, fmt.Sprintf("Value '%s' at '%s' failed to satisfy constraint: Member must have length less than or equal to 63", value, member))
		}
	}
	switch n := len(violations); n {
	case 0:
		return nil
	case 1:
		return Invalid("1 validation error detected: " + violations[0])
	default:
		return Invalid(fmt.Sprintf("%d validation errors detected: %s", n, strings.Join(violations, "; ")))
	}
}

// Invalid is a ValidationException.
func Invalid(message string) *wire.Error {
	return &wire.Error{Status: 400, Code: "ValidationException", Message: message}
}

func notFound(format string, args ...any) *wire.Error {
	return &wire.Error{Status: 400, Code: "ResourceNotFound", Message: fmt.Sprintf(format, args...)}
}

// stamp is a JSON 1.1 timestamp.
func stamp(t time.Time) json.Number {
	return json.Number(fmt.Sprintf("%d.%03d", t.Unix(), t.Nanosecond()/1e6))
}

// exampleID is a stable id for a thing that the scenario does not number.
func exampleID(prefix, name string) string {
	sum := sha256.Sum256([]byte(prefix + name))
	return prefix + hex.EncodeToString(sum[:])[:17]
}

func (v View) notebookObject(n scenario.Notebook) Object {
	return Object{
		"NotebookInstanceArn":    v.Scope.SageMaker("notebook-instance/" + n.Name),
		"NotebookInstanceName":   n.Name,
		"NotebookInstanceStatus": "InService",
		"Url":                    n.Name + ".notebook." + v.Scope.Region + ".sagemaker.aws",
		"InstanceType":           "ml.t3.medium",
		"CreationTime":           stamp(v.Created),
		"LastModifiedTime":       stamp(v.Created),
	}
}

func (v View) describeNotebook(c *wire.Call) (Object, *wire.Error) {
	for _, n := range v.Scenario.Notebooks {
		if n.Name != c.Text("NotebookInstanceName") {
			continue
		}
		o := v.notebookObject(n)
		o["RoleArn"] = v.RoleARN(n.Role)
		o["NetworkInterfaceId"] = exampleID("eni-", n.Name)
		o["DirectInternetAccess"] = "Enabled"
		o["VolumeSizeInGB"] = 5
		o["RootAccess"] = n.RootAccess
		o["PlatformIdentifier"] = "notebook-al2023-v1"
		o["InstanceMetadataServiceConfiguration"] = Object{"MinimumInstanceMetadataServiceVersion": n.MinimumIMDSVersion}
		return o, nil
	}
	return nil, Invalid("RecordNotFound")
}

func (v View) listNotebooks(c *wire.Call) (Object, *wire.Error) {
	list := make([]Object, 0, len(v.Scenario.Notebooks))
	for _, n := range v.Scenario.Notebooks {
		if part := c.Text("NameContains"); strings.Contains(n.Name, part) {
			list = append(list, v.notebookObject(n))
		}
	}
	return Object{"NotebookInstances": list}, nil
}

func (v View) presignNotebook(c *wire.Call) (Object, *wire.Error) {
	name := c.Text("NotebookInstanceName")
	if !slices.ContainsFunc(v.Scenario.Notebooks, func(n scenario.Notebook) bool { return n.Name == name }) {
		return nil, Invalid("RecordNotFound")
	}
	return Object{"AuthorizedUrl": "https://" + name + ".notebook." + v.Scope.Region + ".sagemaker.aws?authToken=" + "EXAMPLE"}, nil
}

// domain returns the domain that the call names.
func (v View) domain(c *wire.Call) (scenario.Domain, *wire.Error) {
	id := c.Text("DomainId")
	if v.Scenario.Domain == nil || v.Scenario.Domain.ID != id {
		return scenario.Domain{}, notFound("Domain [%s] does not exist.", id)
	}
	return *v.Scenario.Domain, nil
}

func (v View) describeDomain(c *wire.Call) (Object, *wire.Error) {
	d, failure := v.domain(c)
	if failure != nil {
		return nil, failure
	}
	o := Object{
		"DomainArn":            v.Scope.SageMaker("domain/" + d.ID),
		"DomainId":             d.ID,
		"DomainName":           d.Name,
		"Status":               "InService",
		"CreationTime":         stamp(v.Created),
		"LastModifiedTime":     stamp(v.Created),
		"AuthMode":             "IAM",
		"AppNetworkAccessType": "PublicInternetOnly",
		"HomeEfsFileSystemId":  exampleID("fs-", d.ID),
		"SubnetIds":            []string{exampleID("subnet-", d.ID)},
		"VpcId":                exampleID("vpc-", d.ID),
		"Url":                  "https://" + d.ID + ".studio." + v.Scope.Region + ".sagemaker.aws",
		"DefaultUserSettings":  Object{"ExecutionRole": v.RoleARN(d.UserRole), "StudioWebPortal": "ENABLED"},
		"DefaultSpaceSettings": Object{"ExecutionRole": v.RoleARN(d.SpaceRole)},
	}
	if d.ExecutionRoleIdentityConfig != "" {
		o["DomainSettings"] = Object{"ExecutionRoleIdentityConfig": d.ExecutionRoleIdentityConfig}
	}
	return o, nil
}

func (v View) describeProfile(c *wire.Call) (Object, *wire.Error) {
	d, failure := v.domain(c)
	if failure != nil {
		return nil, failure
	}
	name := c.Text("UserProfileName")
	for _, p := range v.Scenario.Profiles {
		if p.Name != name {
			continue
		}
		o := Object{
			"DomainId":             d.ID,
			"UserProfileArn":       v.Scope.SageMaker("user-profile/" + d.ID + "/" + p.Name),
			"UserProfileName":      p.Name,
			"HomeEfsFileSystemUid": "200005",
			"Status":               "InService",
			"CreationTime":         stamp(v.Created),
			"LastModifiedTime":     stamp(v.Created),
		}
		if p.Role != "" {
			o["UserSettings"] = Object{"ExecutionRole": v.RoleARN(p.Role)}
		}
		return o, nil
	}
	return nil, notFound("UserProfile [%s] does not exist in Domain [%s].", name, d.ID)
}

func (v View) describeSpace(c *wire.Call) (Object, *wire.Error) {
	d, failure := v.domain(c)
	if failure != nil {
		return nil, failure
	}
	name := c.Text("SpaceName")
	for _, sp := range v.Scenario.Spaces {
		if sp.Name != name {
			continue
		}
		o := Object{
			"DomainId":             d.ID,
			"SpaceArn":             v.Scope.SageMaker("space/" + d.ID + "/" + sp.Name),
			"SpaceName":            sp.Name,
			"HomeEfsFileSystemUid": "200006",
			"Status":               "InService",
			"CreationTime":         stamp(v.Created),
			"LastModifiedTime":     stamp(v.Created),
			"SpaceSharingSettings": Object{"SharingType": sp.Sharing},
			"Url":                  "https://" + d.ID + ".studio." + v.Scope.Region + ".sagemaker.aws/spaces/" + sp.Name,
		}
		if sp.Owner != "" {
			o["OwnershipSettings"] = Object{"OwnerUserProfileName": sp.Owner}
		}
		for _, app := range v.Scenario.Apps {
			if app.Space == sp.Name {
				o["SpaceSettings"] = Object{"AppType": app.Type}
			}
		}
		return o, nil
	}
	return nil, notFound("Space [%s] does not exist in Domain [%s].", name, d.ID)
}
