package doctor

import (
	"slices"
	"testing"

	"github.com/aws/aws-sdk-go-v2/service/sagemaker"
	"github.com/aws/aws-sdk-go-v2/service/sagemaker/types"
)

// A remedy that names a host must name the one of the notebook's partition.
func TestHosts(t *testing.T) {
	t.Parallel()
	for region, want := range map[string][2]string{
		"us-east-1":     {"sts.us-east-1.amazonaws.com", "api.sagemaker.us-east-1.amazonaws.com"},
		"us-gov-west-1": {"sts.us-gov-west-1.amazonaws.com", "api.sagemaker.us-gov-west-1.amazonaws.com"},
		"cn-north-1":    {"sts.cn-north-1.amazonaws.com.cn", "api.sagemaker.cn-north-1.amazonaws.com.cn"},
	} {
		if got := [2]string{stsHost(t.Context(), region), sageMakerHost(t.Context(), region)}; got != want {
			t.Errorf("%s: %v, want %v", region, got, want)
		}
	}
}

// A domain may have settings of one kind alone.
func TestRolesOfADomain(t *testing.T) {
	t.Parallel()
	role, other := "arn:aws:iam::111122223333:role/one", "arn:aws:iam::111122223333:role/two"
	for _, test := range []struct {
		out  sagemaker.DescribeDomainOutput
		want []string
	}{
		{sagemaker.DescribeDomainOutput{}, nil},
		{sagemaker.DescribeDomainOutput{DefaultSpaceSettings: &types.DefaultSpaceSettings{ExecutionRole: &role}}, []string{role}},
		{sagemaker.DescribeDomainOutput{DefaultUserSettings: &types.UserSettings{ExecutionRole: &role}, DefaultSpaceSettings: &types.DefaultSpaceSettings{ExecutionRole: &role}}, []string{role}},
		{sagemaker.DescribeDomainOutput{DefaultUserSettings: &types.UserSettings{ExecutionRole: &role}, DefaultSpaceSettings: &types.DefaultSpaceSettings{ExecutionRole: &other}}, []string{role, other}},
	} {
		if got := domainRoles(&test.out); !slices.Equal(got, test.want) {
			t.Errorf("%v, want %v", got, test.want)
		}
	}
}
