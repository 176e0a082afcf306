package discovery

import (
	"fmt"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/awscause"
)

// The codes that only discovery has, besides those of awscause.
const (
	CodeDeniedDescribe = "denied_describe" // a policy refuses the Describe call
	CodeNotFound       = "not_found"       // SageMaker does not know the resource
	CodeOwnerUnknown   = "owner_unknown"   // a private space without an owner, or a sharing type that is new
	CodeRoleUnknown    = "role_unknown"    // the answer names no usable execution role
)

// endpointName is how PrivateLink calls the SageMaker API.
const endpointName = "sagemaker.api"

// call describes q as a call, to explain how it ended.
func (q question) call() awscause.Call {
	return awscause.Call{
		Doing:    "asking " + q.action + " about " + q.resource,
		Service:  "SageMaker",
		Endpoint: endpointName,
		Region:   q.region,
		Timeout:  q.timeout,
		Denied:   q.denied,
		Own:      q.own,
	}
}

// unusable is for an answer that only somebody's doing can change.
func (q question) unusable(code, remedy, format string, args ...any) *awscause.Error {
	return q.call().Error(awscause.Cause{Code: code, Problem: fmt.Sprintf(format, args...), Remedy: remedy}, nil)
}

func (q question) own(code, message string) awscause.Cause {
	said := code + ": " + message
	switch {
	case code == "ResourceNotFound", code == "ResourceNotFoundException",
		code == "ValidationException" && strings.Contains(message, "RecordNotFound"):
		return awscause.Cause{
			Code:    CodeNotFound,
			Problem: "SageMaker does not know it (" + said + ")",
			Remedy:  "check that the SageMaker endpoint in the settings belongs to region " + q.region + " and that the resource has not been deleted",
		}
	case code == "InvalidSignatureException", code == "SignatureDoesNotMatch":
		return awscause.Cause{
			Code:    awscause.CodeBaseCredentials,
			Problem: "SageMaker refuses the signature (" + said + ")",
			Remedy:  "look for a proxy that changes requests",
			Passing: true,
		}
	}
	return awscause.Cause{}
}

// denied names the policy to change, as far as AWS tells which it is.
func (q question) denied(message string) awscause.Cause {
	remedy := fmt.Sprintf("allow %s on %s in a policy of the execution role", q.action, q.resource)
	switch {
	case strings.Contains(message, "VPC endpoint policy"):
		remedy = fmt.Sprintf("allow %s on %s in the policy of the VPC endpoint for com.amazonaws.%s.%s", q.action, q.resource, q.region, endpointName)
	case strings.Contains(message, "explicit deny"):
		remedy = fmt.Sprintf("find the statement that denies %s on %s (the message names the type of policy) and exempt the execution role", q.action, q.resource)
	case strings.Contains(message, "service control policy"), strings.Contains(message, "permissions boundary"):
		remedy += "; the message names a further policy that must allow it"
	}
	return awscause.Cause{Code: CodeDeniedDescribe, Problem: "access denied (" + message + ")", Remedy: remedy}
}
