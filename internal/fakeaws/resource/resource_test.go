package resource

import (
	"net/url"
	"testing"

	"github.com/nbidentityd/nbidentityd/internal/fakeaws/wire"
)

func TestOf(t *testing.T) {
	s := Scope{Partition: "aws", Region: "us-east-1", Account: "111122223333"}
	const sm = "arn:aws:sagemaker:us-east-1:111122223333:"
	for _, tt := range []struct {
		call wire.Call
		want string
	}{
		{wire.Call{Service: "sagemaker", Operation: "DescribeNotebookInstance", Body: map[string]any{"NotebookInstanceName": "n"}}, sm + "notebook-instance/n"},
		{wire.Call{Service: "sagemaker", Operation: "CreatePresignedNotebookInstanceUrl", Body: map[string]any{"NotebookInstanceName": "n"}}, sm + "notebook-instance/n"},
		{wire.Call{Service: "sagemaker", Operation: "CreatePresignedDomainUrl", Body: map[string]any{"DomainId": "d-x", "UserProfileName": "p"}}, sm + "user-profile/d-x/p"},
		{wire.Call{Service: "sagemaker", Operation: "DescribeSpace", Body: map[string]any{"DomainId": "d-x", "SpaceName": "s"}}, sm + "space/d-x/s"},
		{wire.Call{Service: "sagemaker", Operation: "DescribeUserProfile", Body: map[string]any{"DomainId": "d-x", "UserProfileName": "p"}}, sm + "user-profile/d-x/p"},
		{wire.Call{Service: "sagemaker", Operation: "DescribeDomain", Body: map[string]any{"DomainId": "d-x"}}, sm + "domain/d-x"},
		{wire.Call{Service: "sagemaker", Operation: "DescribeApp", Body: map[string]any{"DomainId": "d-x", "SpaceName": "s", "AppType": "JupyterLab", "AppName": "default"}}, sm + "app/d-x/s/jupyterlab/default"},
		{wire.Call{Service: "sagemaker", Operation: "CreateTrainingJob", Body: map[string]any{"TrainingJobName": "j"}}, sm + "training-job/j"},
		{wire.Call{Service: "sagemaker", Operation: "CreateEndpoint", Body: map[string]any{"EndpointName": "e"}}, sm + "endpoint/e"},
		{wire.Call{Service: "sagemaker", Operation: "ListNotebookInstances"}, "*"},
		{wire.Call{Service: "sagemaker", Operation: "ListTags", Body: map[string]any{"ResourceArn": sm + "endpoint/e"}}, sm + "endpoint/e"},
		{wire.Call{Service: "sagemaker", Operation: "X"}, "*"},
		{wire.Call{Service: "athena", Operation: "StartQueryExecution"}, "arn:aws:athena:us-east-1:111122223333:workgroup/primary"},
		{wire.Call{Service: "athena", Operation: "StartQueryExecution", Body: map[string]any{"WorkGroup": "w"}}, "arn:aws:athena:us-east-1:111122223333:workgroup/w"},
		{wire.Call{Service: "athena", Operation: "ListWorkGroups"}, "*"},
		{wire.Call{Service: "iam", Operation: "DeleteRole", Form: url.Values{"RoleName": {"r"}}}, "arn:aws:iam::111122223333:role/r"},
		{wire.Call{Service: "s3", Operation: "ListBuckets"}, "*"},
		{wire.Call{Service: "s3", Operation: "ListObjects", Bucket: "b"}, "arn:aws:s3:::b"},
		{wire.Call{Service: "s3", Operation: "GetObject", Bucket: "b", Key: "k/l"}, "arn:aws:s3:::b/k/l"},
		{wire.Call{Service: "s3", Operation: "DeleteObjects", Bucket: "b"}, "arn:aws:s3:::b/*"},
		{wire.Call{Service: "kms", Operation: "Decrypt", Body: map[string]any{"KeyArn": "arn:aws:kms:x", "RoleArn": "arn:aws:iam::1:role/r"}}, "arn:aws:kms:x"},
		{wire.Call{Service: "sns", Operation: "Publish", Form: url.Values{"TopicArn": {"arn:aws:sns:x"}}}, "arn:aws:sns:x"},
		{wire.Call{Service: "kms", Operation: "ListKeys"}, "*"},
	} {
		if got := s.Of(&tt.call); got != tt.want {
			t.Errorf("%s %s: %s, want %s", tt.call.Service, tt.call.Operation, got, tt.want)
		}
	}
}
