package doctor

import "testing"

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
