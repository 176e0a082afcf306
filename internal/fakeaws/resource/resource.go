// Package resource names what an AWS call acts on, as an ARN for policies and
// for the resources of a CloudTrail record.
//
// It relies on the resource types of the Service Authorization Reference for
// S3, SageMaker, IAM and Athena. For other services it takes the first
// parameter that holds an ARN of the service, else "*".
package resource

import (
	"maps"
	"slices"
	"strings"
	"unicode"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// Scope is where ARNs are made.
type Scope struct{ Partition, Region, Account string }

func (s Scope) regional(service, rest string) string {
	return "arn:" + s.Partition + ":" + service + ":" + s.Region + ":" + s.Account + ":" + rest
}

// SageMaker returns the ARN of a SageMaker resource such as
// "notebook-instance/alice-nb".
func (s Scope) SageMaker(rest string) string { return s.regional("sagemaker", rest) }

// Bucket returns the ARN of a bucket or, with a key, of an object.
func (s Scope) Bucket(bucket, key string) string {
	arn := "arn:" + s.Partition + ":s3:::" + bucket
	if key != "" {
		arn += "/" + key
	}
	return arn
}

// Role returns the ARN of a role from its path and name.
func (s Scope) Role(path, name string) string {
	return "arn:" + s.Partition + ":iam::" + s.Account + ":role" + path + name
}

// Of returns the ARN that c acts on, or "*".
func (s Scope) Of(c *wire.Call) string {
	switch c.Service {
	case "s3":
		return s.ofS3(c)
	case "sagemaker":
		if arn := s.ofSageMaker(c); arn != "" {
			return arn
		}
	case "athena":
		if strings.HasPrefix(c.Operation, "List") {
			return "*"
		}
		workgroup := c.Text("WorkGroup")
		if workgroup == "" {
			workgroup = "primary"
		}
		return s.regional("athena", "workgroup/"+workgroup)
	case "iam":
		if name := c.Form.Get("RoleName"); name != "" {
			return s.Role("/", name)
		}
	}
	return firstARN(c)
}

func (s Scope) ofS3(c *wire.Call) string {
	if c.Bucket == "" {
		return "*"
	}
	switch c.Operation {
	case "GetObject", "HeadObject", "PutObject", "DeleteObject", "CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload", "AbortMultipartUpload":
		return s.Bucket(c.Bucket, c.Key)
	case "DeleteObjects":
		return s.Bucket(c.Bucket, "*")
	}
	return s.Bucket(c.Bucket, "")
}

// ofSageMaker derives kind and name of the resource from the operation's noun:
// CreateTrainingJob with TrainingJobName → training-job/….
func (s Scope) ofSageMaker(c *wire.Call) string {
	domain := c.Text("DomainId")
	noun := strings.TrimLeftFunc(c.Operation[1:], unicode.IsLower) // without the verb
	switch {
	case strings.HasPrefix(c.Operation, "List"):
		return ""
	case strings.HasPrefix(c.Operation, "CreatePresignedNotebookInstanceUrl"):
		noun = "NotebookInstance"
	case strings.HasPrefix(c.Operation, "CreatePresignedDomainUrl"):
		return s.SageMaker("user-profile/" + domain + "/" + c.Text("UserProfileName"))
	case c.Service == "sagemaker" && strings.HasPrefix(c.Operation, "InvokeEndpoint"):
		return "*"
	}
	switch noun {
	case "Domain":
		if domain == "" {
			return ""
		}
		return s.SageMaker("domain/" + domain)
	case "UserProfile", "Space":
		return s.SageMaker(kebab(noun) + "/" + domain + "/" + c.Text(noun+"Name"))
	case "App":
		owner := c.Text("UserProfileName")
		if owner == "" {
			owner = c.Text("SpaceName")
		}
		return s.SageMaker("app/" + domain + "/" + owner + "/" + strings.ToLower(c.Text("AppType")) + "/" + c.Text("AppName"))
	}
	if name := c.Text(noun + "Name"); name != "" {
		return s.SageMaker(kebab(noun) + "/" + name)
	}
	return ""
}

func kebab(noun string) string {
	var b strings.Builder
	for i, r := range noun {
		if unicode.IsUpper(r) && i > 0 {
			b.WriteByte('-')
		}
		b.WriteRune(unicode.ToLower(r))
	}
	return b.String()
}

// firstARN looks for a parameter that is an ARN.
func firstARN(c *wire.Call) string {
	for _, k := range slices.Sorted(maps.Keys(c.Body)) {
		if v := c.Text(k); strings.HasSuffix(strings.ToLower(k), "arn") && strings.HasPrefix(v, "arn:") && !strings.Contains(strings.ToLower(k), "role") {
			return v
		}
	}
	for _, k := range slices.Sorted(maps.Keys(c.Form)) {
		if v := c.Form.Get(k); strings.HasSuffix(strings.ToLower(k), "arn") && strings.HasPrefix(v, "arn:") && !strings.Contains(strings.ToLower(k), "role") {
			return v
		}
	}
	return "*"
}
