package fakeaws

import (
	"encoding/json"
	"strings"
	"time"

	"go.uber.org/zap"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/describe"
	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

// sageMaker answers a call to SageMaker. A caller without permission does not
// learn what exists.
func (x *exchange) sageMaker() (answer, *wire.Error) {
	switch {
	case x.call.Protocol == wire.JSON && (x.call.Operation == "CreateTrainingJob" || x.call.Operation == "CreateProcessingJob"):
		return x.createJob(strings.TrimPrefix(x.call.Operation, "Create"))
	case !describe.Knows(x.call):
		return x.generic(x.scope.Of(x.call))
	}
	if failure := describe.Check(x.call); failure != nil {
		return answer{}, failure
	}
	if failure := x.authorize(x.call.Action, x.scope.Of(x.call), nil); failure != nil {
		return answer{}, failure
	}
	view := describe.View{Scenario: x.current(), Scope: x.scope, Created: x.created, RoleARN: x.roleARN}
	result, failure := view.Answer(x.call)
	if failure != nil {
		return answer{}, failure
	}
	return x.json(result), nil
}

func (x *exchange) json(result describe.Object) answer {
	body, err := json.Marshal(result)
	if err != nil { // strings and numbers only: cannot happen
		x.log.Error("rendering an answer failed", zap.Error(err))
	}
	contentType := x.call.Type
	if contentType == "" {
		contentType = "application/json"
	}
	return answer{contentType: contentType, body: body}
}

func (x *exchange) roleARN(name string) string {
	if r := x.directory.Role(name); r != nil {
		return r.ARN
	}
	return x.scope.Role("/", name) // deleted since
}

// createJob starts a job as far as anybody can see: SageMaker must be able to
// assume the job's role, with the caller's source identity if it has one.
func (x *exchange) createJob(noun string) (answer, *wire.Error) {
	name, roleARN := x.call.Text(noun+"Name"), x.call.Text("RoleArn")
	if name == "" || roleARN == "" {
		return answer{}, describe.Invalid("1 validation error detected: Value null at 'roleArn' failed to satisfy constraint: Member must not be null")
	}
	arn := x.scope.Of(x.call)
	if failure := x.authorize(x.call.Action, arn, nil); failure != nil {
		return answer{}, failure
	}
	if failure := x.authorize("iam:PassRole", roleARN, map[string][]string{"iam:passedtoservice": {sageMakerPrincipal}}); failure != nil {
		return answer{}, failure
	}
	cannot := describe.Invalid("Could not assume role " + roleARN + ". Please ensure that the role exists and allows principal '" + sageMakerPrincipal + "' to assume the role.")
	role := x.directory.RoleByARN(roleARN)
	if role == nil {
		return answer{}, cannot
	}
	if _, refused := x.serviceAssume(role.Name, baseSessionName, x.session.SourceIdentity, time.Hour, x.now); refused != nil {
		return answer{}, cannot
	}
	result := describe.Object{noun + "Arn": arn}
	done := x.json(result)
	done.elements = wire.Elements(result)
	return done, nil
}
