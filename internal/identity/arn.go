package identity

import (
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/lazyregexp"
)

const (
	partitionExpr = `aws(?:-[a-z0-9]+)*`
	accountExpr   = `[0-9]{12}`

	maxResourceARN = 256  // the SageMaker model's limit for the ARNs of apps and notebook instances
	maxRoleARN     = 2048 // the STS model's limit for RoleArn
)

var (
	resourcePattern = lazyregexp.New(`^arn:(` + partitionExpr + `):sagemaker:([a-z][a-z0-9]*(?:-[a-z0-9]+)+):(` + accountExpr + `):([a-z-]+)/([A-Za-z0-9/-]+)$`)
	rolePattern     = lazyregexp.New(`^arn:(` + partitionExpr + `):iam::(` + accountExpr + `):role(/(?:[!-.0-~]+/)*)([A-Za-z0-9_+=,.@-]{1,64})$`)
)

// resource is a SageMaker ARN taken apart.
type resource struct {
	partition, region, account string
	kind                       string // notebook-instance, app, …
	path                       []string
}

func parseResource(arn string) (resource, bool) {
	m := resourcePattern.FindStringSubmatch(arn)
	if len(arn) > maxResourceARN || m == nil || len(m[2]) > maxName {
		return resource{}, false
	}
	return resource{partition: m[1], region: m[2], account: m[3], kind: m[4], path: strings.Split(m[5], "/")}, true
}

// RoleARN is the ARN of an IAM role taken apart.
type RoleARN struct {
	Partition, Account string
	Path               string // begins and ends with a slash; "/" when there is none
	Name               string
}

// ParseRoleARN takes the ARN of an IAM role apart. Session ARNs
// (assumed-role/…) are refused: they have lost the path.
func ParseRoleARN(arn string) (RoleARN, error) {
	m := rolePattern.FindStringSubmatch(arn)
	if len(arn) > maxRoleARN || m == nil {
		return RoleARN{}, fmt.Errorf("%.120q is not the ARN of an IAM role: expected arn:PARTITION:iam::ACCOUNT:role/NAME", arn)
	}
	return RoleARN{Partition: m[1], Account: m[2], Path: m[3], Name: m[4]}, nil
}

// String is the inverse of ParseRoleARN.
func (r RoleARN) String() string {
	return "arn:" + r.Partition + ":iam::" + r.Account + ":role" + r.Path + r.Name
}

// SessionARN is how STS and CloudTrail name the session of r that is called name.
// The path of the role is not part of it.
func (r RoleARN) SessionARN(name string) string {
	return "arn:" + r.Partition + ":sts::" + r.Account + ":assumed-role/" + r.Name + "/" + name
}
