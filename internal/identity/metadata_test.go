package identity

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

const (
	classicARN = "arn:aws:sagemaker:us-west-2:111122223333:notebook-instance/alice-nb"
	spaceARN   = "arn:aws:sagemaker:us-west-2:111122223333:app/d-f0lwireyzpjp/test-ae-3/JupyterLab/default"
	roleARN    = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole-20250415T091941"
)

// shapes are the metadata files that AWS documents or its tools are tested with.
var shapes = []struct {
	name string
	file string
	want Notebook
}{
	{
		name: "classic",
		file: `{"ResourceArn": "` + classicARN + `", "ResourceName": "alice-nb"}`,
		want: Notebook{Surface: SurfaceNotebookInstance, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			InstanceName: "alice-nb", ResourceARN: classicARN},
	},
	{
		name: "classic with capitals that the ARN lost",
		file: `{"ResourceArn": "` + classicARN + `", "ResourceName": "Alice-NB"}`,
		want: Notebook{Surface: SurfaceNotebookInstance, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			InstanceName: "Alice-NB", ResourceARN: classicARN},
	},
	{
		name: "classic without ResourceName",
		file: `{"ResourceArn": "` + classicARN + `"}`,
		want: Notebook{Surface: SurfaceNotebookInstance, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			InstanceName: "alice-nb", ResourceARN: classicARN},
	},
	{
		name: "classic, newer, with the role and empty Studio keys",
		file: `{"ResourceArn": "` + classicARN + `", "ResourceName": "alice-nb", "ExecutionRoleArn": "` + roleARN + `",
			"DomainId": "", "SpaceName": null, "IpAddressType": "ipv4", "Future": {"a": [1, {"b": null}]}}`,
		want: Notebook{Surface: SurfaceNotebookInstance, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			InstanceName: "alice-nb", ExecutionRoleARN: roleARN, ResourceARN: classicARN},
	},
	{
		name: "classic, one-character name",
		file: `{"ResourceArn": "arn:aws:sagemaker:us-west-2:111122223333:notebook-instance/x", "ResourceName": "x"}`,
		want: Notebook{Surface: SurfaceNotebookInstance, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			InstanceName: "x", ResourceARN: "arn:aws:sagemaker:us-west-2:111122223333:notebook-instance/x"},
	},
	{
		name: "KernelGateway of a profile",
		file: `{"AppType": "KernelGateway", "DomainId": "d-xxxxxxxxxxxx", "UserProfileName": "profile-name",
			"ResourceArn": "arn:aws:sagemaker:us-east-2:111122223333:app/d-xxxxxxxxxxxx/profile-name/KernelGateway/datascience--1-0-ml-t3-medium",
			"ResourceName": "datascience--1-0-ml", "AppImageVersion": ""}`,
		want: Notebook{Surface: SurfaceStudioProfile, Partition: "aws", Region: "us-east-2", Account: "111122223333",
			DomainID: "d-xxxxxxxxxxxx", UserProfile: "profile-name", AppType: "KernelGateway", App: "datascience--1-0-ml-t3-medium",
			ResourceARN: "arn:aws:sagemaker:us-east-2:111122223333:app/d-xxxxxxxxxxxx/profile-name/KernelGateway/datascience--1-0-ml-t3-medium"},
	},
	{
		name: "JupyterServer of a profile, lower-case ARN",
		file: `{"AppType": "JupyterServer", "DomainId": "d-xxxxxxxxxxxx", "UserProfileName": "Alice",
			"ResourceArn": "arn:aws:sagemaker:us-east-2:111122223333:app/d-xxxxxxxxxxxx/alice/jupyterserver/default",
			"ResourceName": "default"}`,
		want: Notebook{Surface: SurfaceStudioProfile, Partition: "aws", Region: "us-east-2", Account: "111122223333",
			DomainID: "d-xxxxxxxxxxxx", UserProfile: "Alice", AppType: "JupyterServer", App: "default",
			ResourceARN: "arn:aws:sagemaker:us-east-2:111122223333:app/d-xxxxxxxxxxxx/alice/jupyterserver/default"},
	},
	{
		name: "profile app with only what is needed",
		file: `{"UserProfileName": "alice",
			"ResourceArn": "arn:aws:sagemaker:us-east-2:111122223333:app/d-xxxxxxxxxxxx/alice/KernelGateway/k1"}`,
		want: Notebook{Surface: SurfaceStudioProfile, Partition: "aws", Region: "us-east-2", Account: "111122223333",
			DomainID: "d-xxxxxxxxxxxx", UserProfile: "alice", AppType: "KernelGateway", App: "k1",
			ResourceARN: "arn:aws:sagemaker:us-east-2:111122223333:app/d-xxxxxxxxxxxx/alice/KernelGateway/k1"},
	},
	{
		name: "Studio Classic shared space, the ARN naming a profile",
		file: `{"AppType": "KernelGateway", "DomainId": "d-xxxxxxxxxxxx", "SpaceName": "space-name",
			"ResourceArn": "arn:aws:sagemaker:us-east-2:111122223333:app/d-xxxxxxxxxxxx/profile-name/KernelGateway/datascience--1-0-ml-t3-medium",
			"ResourceName": "datascience--1-0-ml", "AppImageVersion": ""}`,
		want: Notebook{Surface: SurfaceStudioSpace, Partition: "aws", Region: "us-east-2", Account: "111122223333",
			DomainID: "d-xxxxxxxxxxxx", Space: "space-name", AppType: "KernelGateway", App: "datascience--1-0-ml-t3-medium",
			ResourceARN: "arn:aws:sagemaker:us-east-2:111122223333:app/d-xxxxxxxxxxxx/profile-name/KernelGateway/datascience--1-0-ml-t3-medium"},
	},
	{
		name: "JupyterLab space",
		file: `{"AppType": "JupyterLab", "DomainId": "d-f0lwireyzpjp", "SpaceName": "test-ae-3", "ExecutionRoleArn": "` + roleARN + `",
			"ResourceArn": "` + spaceARN + `", "ResourceName": "default", "AppImageVersion": "",
			"ResourceArnCaseSensitive": "` + spaceARN + `", "IpAddressType": "ipv4"}`,
		want: Notebook{Surface: SurfaceStudioSpace, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			DomainID: "d-f0lwireyzpjp", Space: "test-ae-3", AppType: "JupyterLab", App: "default",
			ExecutionRoleARN: roleARN, ResourceARN: spaceARN},
	},
	{
		name: "JupyterLab space, ARNs of different case",
		file: `{"AppType": "JupyterLab", "DomainId": "d-f0lwireyzpjp", "SpaceName": "test-ae-3",
			"ResourceArn": "` + strings.ToLower(spaceARN) + `", "ResourceName": "default",
			"ResourceArnCaseSensitive": "` + spaceARN + `"}`,
		want: Notebook{Surface: SurfaceStudioSpace, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			DomainID: "d-f0lwireyzpjp", Space: "test-ae-3", AppType: "JupyterLab", App: "default",
			ResourceARN: strings.ToLower(spaceARN)},
	},
	{
		name: "space with the case-sensitive ARN alone",
		file: `{"SpaceName": "test-ae-3", "ResourceArnCaseSensitive": "` + spaceARN + `"}`,
		want: Notebook{Surface: SurfaceStudioSpace, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			DomainID: "d-f0lwireyzpjp", Space: "test-ae-3", AppType: "JupyterLab", App: "default", ResourceARN: spaceARN},
	},
	{
		name: "space that also names a profile stays a space",
		file: `{"SpaceName": "test-ae-3", "UserProfileName": "alice", "ResourceArn": "` + spaceARN + `", "ResourceArnCaseSensitive": ""}`,
		want: Notebook{Surface: SurfaceStudioSpace, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			DomainID: "d-f0lwireyzpjp", UserProfile: "alice", Space: "test-ae-3", AppType: "JupyterLab", App: "default", ResourceARN: spaceARN},
	},
	{
		name: "CodeEditor space",
		file: `{"AppType": "CodeEditor", "DomainId": "d-f0lwireyzpjp", "SpaceName": "Team-Space",
			"ResourceArn": "arn:aws:sagemaker:eu-central-1:111122223333:app/d-f0lwireyzpjp/team-space/codeeditor/default",
			"ResourceName": "default", "AppImageVersion": "", "ResourceArnCaseSensitive": "", "AdditionalMetadata": {}}`,
		want: Notebook{Surface: SurfaceStudioSpace, Partition: "aws", Region: "eu-central-1", Account: "111122223333",
			DomainID: "d-f0lwireyzpjp", Space: "Team-Space", AppType: "CodeEditor", App: "default",
			ResourceARN: "arn:aws:sagemaker:eu-central-1:111122223333:app/d-f0lwireyzpjp/team-space/codeeditor/default"},
	},
	{
		name: "Unified Studio",
		file: `{"AppType": "JupyterLab", "DomainId": "d-1234567890ab", "SpaceName": "default-12345abc-0000-1111-aaaa-ab1234567890",
			"ExecutionRoleArn": "arn:aws:iam::111122223333:role/Admin",
			"ResourceArn": "arn:aws:sagemaker:us-west-2:111122223333:app/d-1234567890ab/default-12345abc-0000-1111-aaaa-ab1234567890/JupyterLab/default",
			"ResourceName": "default", "AppImageVersion": "",
			"AdditionalMetadata": {"DataZoneDomainId": "dzd_1234567890abcd", "DataZoneDomainRegion": "us-west-2",
				"DataZoneEndpoint": "https://datazone.us-west-2.api.aws", "DataZoneEnvironmentId": "e1234567890abc",
				"DataZoneProjectId": "p1234567890abc", "DataZoneScopeName": "dev", "DataZoneStage": "gamma",
				"DataZoneUserId": "12345abc-0000-1111-aaaa-ab1234567890", "PrivateSubnets": "", "ProjectStorageType": {"new": true},
				"ProjectS3Path": "s3://amazon-sagemaker-111122223333-us-west-2-1234567890abcd/shared/", "SecurityGroup": ""},
			"ResourceArnCaseSensitive": "arn:aws:sagemaker:us-west-2:111122223333:app/d-1234567890ab/default-12345abc-0000-1111-aaaa-ab1234567890/jupyterlab/default",
			"IpAddressType": "ipv4"}`,
		want: Notebook{Surface: SurfaceUnifiedStudio, Partition: "aws", Region: "us-west-2", Account: "111122223333",
			DomainID: "d-1234567890ab", Space: "default-12345abc-0000-1111-aaaa-ab1234567890", AppType: "JupyterLab", App: "default",
			ExecutionRoleARN: "arn:aws:iam::111122223333:role/Admin", DataZoneUserID: "12345abc-0000-1111-aaaa-ab1234567890",
			ResourceARN: "arn:aws:sagemaker:us-west-2:111122223333:app/d-1234567890ab/default-12345abc-0000-1111-aaaa-ab1234567890/JupyterLab/default"},
	},
}

func TestParseShapes(t *testing.T) {
	t.Parallel()
	for _, tt := range shapes {
		t.Run(tt.name, func(t *testing.T) {
			got, err := Parse("resource-metadata.json", []byte(tt.file))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

func TestParsePartitions(t *testing.T) {
	t.Parallel()
	for partition, region := range map[string]string{
		"aws": "us-east-1", "aws-cn": "cn-north-1", "aws-us-gov": "us-gov-west-1", "aws-eusc": "eusc-de-east-1",
		"aws-iso": "us-iso-east-1", "aws-iso-b": "us-isob-east-1", "aws-iso-e": "eu-isoe-west-1", "aws-iso-f": "us-isof-south-1",
		"aws-moon2": "moon-far-side-1",
	} {
		file := `{"ResourceArn": "arn:` + partition + `:sagemaker:` + region + `:111122223333:notebook-instance/nb", "ResourceName": "nb",
			"ExecutionRoleArn": "arn:` + partition + `:iam::111122223333:role/R"}`
		nb, err := Parse("f", []byte(file))
		if err != nil {
			t.Error(err)
			continue
		}
		if nb.Partition != partition || nb.Region != region || nb.ExecutionRoleARN == "" {
			t.Errorf("%s: got %+v", partition, nb)
		}
	}
}

func TestParseRefuses(t *testing.T) {
	t.Parallel()
	long := strings.Repeat("a", 64)
	app := func(owner string) string {
		return `"ResourceArn": "arn:aws:sagemaker:us-west-2:111122223333:app/d-f0lwireyzpjp/` + owner + `/JupyterLab/default"`
	}
	tests := []struct {
		name, file string
		want       string // in the error, after the file's name
	}{
		{"array", `[]`, "the whole file: expected an object, found \"an array\""},
		{"null", ` null `, "the whole file: expected an object"},
		{"syntax", `{"ResourceArn": x}`, "expected a JSON object: invalid character"},
		{"trailing data", `{} {}`, `expected nothing after the JSON object, found "{}"`},
		{"too deep", strings.Repeat("[", 20000) + strings.Repeat("]", 20000), "exceeded max depth"},
		{"huge", `{"x": "` + strings.Repeat("a", maxFileSize) + `"}`, "expected at most 65536 bytes"},
		{"nothing", `{}`, "ResourceArn: expected arn:PARTITION:sagemaker:"},
		{"lower-case key is another key", `{"resourcearn": "` + classicARN + `"}`, "ResourceArn: expected arn:"},
		{"type of ARN", `{"ResourceArn": 7}`, `ResourceArn: expected a string, found "a number"`},
		{"type of name", `{"ResourceArn": "` + classicARN + `", "ResourceName": ["alice-nb"]}`, `ResourceName: expected a string, found "an array"`},
		{"type of role", `{"ResourceArn": "` + classicARN + `", "ExecutionRoleArn": {"a": 1}}`, `ExecutionRoleArn: expected a string, found "an object"`},
		{"type of profile", `{"UserProfileName": true, ` + app("alice") + `}`, `UserProfileName: expected a string, found "a boolean"`},
		{"type of additional metadata", `{"SpaceName": "s", "AdditionalMetadata": "x", ` + app("s") + `}`, "AdditionalMetadata: expected an object"},
		{"type of DataZone user", `{"AdditionalMetadata": {"DataZoneUserId": 1}, ` + app("s") + `}`, "AdditionalMetadata.DataZoneUserId: expected a string"},
		{"DataZone user", `{"AdditionalMetadata": {"DataZoneUserId": "a\u0000"}, ` + app("s") + `}`, `AdditionalMetadata.DataZoneUserId: expected a DataZone user id, found "a\x00"`},
		{"duplicate key", `{"UserProfileName": "alice", ` + app("alice") + `, "UserProfileName": "bob"}`, `"UserProfileName": expected each key once`},
		{"duplicate key by escape", `{"UserProfileName": "alice", ` + app("alice") + `, "UserProfile\u004eame": "bob"}`, `"UserProfileName": expected each key once`},
		{"duplicate nested key", `{"AdditionalMetadata": {"DataZoneUserId": "a", "DataZoneUserId": "b"}}`, `AdditionalMetadata."DataZoneUserId": expected each key once`},
		{"control character", `{"UserProfileName": "ali\nce", ` + app("alice") + `}`, `UserProfileName: expected 1 to 63 letters, digits and hyphens, with no hyphen at either end, found "ali\nce"`},
		{"control character at the end", `{"UserProfileName": "alice\n", ` + app("alice") + `}`, `UserProfileName: expected 1 to 63`},
		{"path trick", `{"UserProfileName": "../alice", ` + app("alice") + `}`, "UserProfileName: expected 1 to 63"},
		{"dots", `{"ResourceArn": "` + classicARN + `", "ResourceName": ".."}`, "ResourceName: expected 1 to 63"},
		{"template trick", `{"UserProfileName": "{name}", ` + app("alice") + `}`, "UserProfileName: expected 1 to 63"},
		{"wide letter", `{"UserProfileName": "аlice", ` + app("alice") + `}`, "UserProfileName: expected 1 to 63"},
		{"broken UTF-8", `{"UserProfileName": "` + "\xff" + `lice", ` + app("alice") + `}`, "UserProfileName: expected 1 to 63"},
		{"blank", `{"UserProfileName": " alice", ` + app("alice") + `}`, "UserProfileName: expected 1 to 63"},
		{"long name", `{"SpaceName": "` + long + `", ` + app("s") + `}`, "SpaceName: expected 1 to 63"},
		{"long name in ARN", `{"ResourceArn": "arn:aws:sagemaker:us-west-2:111122223333:notebook-instance/` + long + `"}`, "ResourceArn: expected one notebook instance's name"},
		{"hyphen at the end", `{"SpaceName": "s-", ` + app("s") + `}`, "SpaceName: expected 1 to 63"},
		{"names disagree", `{"ResourceArn": "` + classicARN + `", "ResourceName": "bob-nb"}`, `ResourceName: expected the name in ResourceArn, alice-nb, found "bob-nb"`},
		{"classic with a domain", `{"ResourceArn": "` + classicARN + `", "DomainId": "d-f0lwireyzpjp"}`, "DomainId: expected nothing beside the ResourceArn of a notebook instance"},
		{"classic with a profile", `{"ResourceArn": "` + classicARN + `", "UserProfileName": "bob"}`, "UserProfileName: expected nothing beside"},
		{"classic with a path", `{"ResourceArn": "` + classicARN + `/bob"}`, "ResourceArn: expected one notebook instance's name"},
		{"app without owner", `{` + app("alice") + `, "ResourceName": "default"}`, "UserProfileName: expected a name here or in SpaceName"},
		{"profile disagrees", `{"UserProfileName": "bob", ` + app("alice") + `}`, `UserProfileName: expected the owner in ResourceArn, alice, found "bob"`},
		{"domain disagrees", `{"UserProfileName": "alice", "DomainId": "d-other", ` + app("alice") + `}`, "DomainId: expected the domain in ResourceArn, d-f0lwireyzpjp"},
		{"domain", `{"UserProfileName": "alice", "DomainId": "d-", ` + app("alice") + `}`, "DomainId: expected a domain id"},
		{"app type disagrees", `{"UserProfileName": "alice", "AppType": "Canvas", ` + app("alice") + `}`, "AppType: expected the app type in ResourceArn, JupyterLab"},
		{"ARNs disagree", `{"SpaceName": "s", ` + app("s") + `, "ResourceArnCaseSensitive": "` + spaceARN + `"}`, "ResourceArnCaseSensitive: expected the same as ResourceArn but for case"},
		{"short app ARN", `{"SpaceName": "s", "ResourceArn": "arn:aws:sagemaker:us-west-2:111122223333:app/arn"}`, "ResourceArn: expected arn:"},
		{"another resource", `{"ResourceArn": "arn:aws:sagemaker:us-west-2:111122223333:endpoint/e"}`, "ResourceArn: expected arn:PARTITION:sagemaker:REGION:ACCOUNT: and notebook-instance/NAME or app/"},
		{"another service", `{"ResourceArn": "arn:aws:s3:us-west-2:111122223333:notebook-instance/e"}`, "ResourceArn: expected arn:"},
		{"partition", `{"ResourceArn": "arn:aws.evil.example:sagemaker:us-west-2:111122223333:notebook-instance/e"}`, "ResourceArn: expected arn:"},
		{"region as host", `{"ResourceArn": "arn:aws:sagemaker:evil.example/:111122223333:notebook-instance/e"}`, "ResourceArn: expected arn:"},
		{"account", `{"ResourceArn": "arn:aws:sagemaker:us-west-2:1111:notebook-instance/e"}`, "ResourceArn: expected arn:"},
		{"newline after ARN", `{"ResourceArn": "` + classicARN + `\n"}`, "ResourceArn: expected arn:"},
		{"long ARN", `{"ResourceArn": "arn:aws:sagemaker:us-west-2:111122223333:notebook-instance/` + strings.Repeat("a", 300) + `"}`, "ResourceArn: expected arn:"},
		{"role of another account", `{"ResourceArn": "` + classicARN + `", "ExecutionRoleArn": "arn:aws:iam::444455556666:role/R"}`, "ExecutionRoleArn: expected the ARN of a role in partition aws and account 111122223333"},
		{"role of another partition", `{"ResourceArn": "` + classicARN + `", "ExecutionRoleArn": "arn:aws-cn:iam::111122223333:role/R"}`, "ExecutionRoleArn: expected the ARN of a role"},
		{"session for role", `{"ResourceArn": "` + classicARN + `", "ExecutionRoleArn": "arn:aws:sts::111122223333:assumed-role/R/s"}`, "ExecutionRoleArn: expected the ARN of a role"},
		{"role with blank", `{"ResourceArn": "` + classicARN + `", "ExecutionRoleArn": "arn:aws:iam::111122223333:role/a b/R"}`, "ExecutionRoleArn: expected the ARN of a role"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			nb, err := Parse("resource-metadata.json", []byte(tt.file))
			if err == nil {
				t.Fatalf("accepted as %+v", nb)
			}
			if !strings.HasPrefix(err.Error(), "resource-metadata.json: ") || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %q does not name the file or say %q", err, tt.want)
			}
			if errors.Is(err, ErrIncomplete) {
				t.Errorf("error %q would be retried", err)
			}
			if len(err.Error()) > 600 || strings.ContainsAny(err.Error(), "\n\x00") {
				t.Errorf("error of %d bytes is not fit for a log line: %q", len(err.Error()), err)
			}
			if diff := cmp.Diff(Notebook{}, nb); diff != "" {
				t.Errorf("a refused file left fields: %s", diff)
			}
		})
	}
}

// Every proper prefix of a file is what a reader may see while it is written.
func TestParseHalfWritten(t *testing.T) {
	t.Parallel()
	for _, tt := range shapes {
		for n := range len(tt.file) {
			if _, err := Parse("f", []byte(tt.file[:n])); !errors.Is(err, ErrIncomplete) {
				t.Fatalf("%s: first %d bytes: got error %v, want one that is ErrIncomplete", tt.name, n, err)
			}
		}
	}
}

func TestReadFile(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	good := filepath.Join(dir, "resource-metadata.json")
	if err := os.WriteFile(good, []byte(shapes[0].file), 0o444); err != nil {
		t.Fatal(err)
	}
	nb, err := ReadFile(good)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(shapes[0].want, nb); diff != "" {
		t.Errorf("(-want +got)\n%s", diff)
	}

	bad := map[string]func(path string) error{
		"symlink":  func(path string) error { return os.Symlink(good, path) },
		"dangling": func(path string) error { return os.Symlink(path+"x", path) },
		"fifo":     func(path string) error { return unix.Mkfifo(path, 0o600) },
		"dir":      func(path string) error { return os.Mkdir(path, 0o700) },
		"huge": func(path string) error {
			if err := os.WriteFile(path, nil, 0o600); err != nil {
				return err
			}
			return os.Truncate(path, 1<<40)
		},
	}
	for name, create := range bad {
		path := filepath.Join(dir, name)
		if err := create(path); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		_, err := ReadFile(path)
		if err == nil || !strings.Contains(err.Error(), path) || errors.Is(err, ErrIncomplete) || errors.Is(err, fs.ErrNotExist) {
			t.Errorf("%s: got error %v, want a permanent one that names the file", name, err)
		}
		if d := time.Since(start); d > 5*time.Second {
			t.Errorf("%s: took %s", name, d)
		}
	}
	if _, err := ReadFile("/dev/zero"); err == nil || !strings.Contains(err.Error(), "expected a regular file") {
		t.Errorf("/dev/zero: got error %v", err)
	}
	if _, err := ReadFile(filepath.Join(dir, "absent")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("absent: got error %v, want fs.ErrNotExist", err)
	}
	empty := filepath.Join(dir, "empty")
	if err := os.WriteFile(empty, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ReadFile(empty); !errors.Is(err, ErrIncomplete) {
		t.Errorf("empty: got error %v, want ErrIncomplete", err)
	}
}

func TestParseRoleARN(t *testing.T) {
	t.Parallel()
	for arn, want := range map[string]RoleARN{
		"arn:aws:iam::111122223333:role/R":                     {"aws", "111122223333", "/", "R"},
		"arn:aws:iam::111122223333:role/service-role/R+=,.@-_": {"aws", "111122223333", "/service-role/", "R+=,.@-_"},
		"arn:aws-cn:iam::111122223333:role/a/b/R":              {"aws-cn", "111122223333", "/a/b/", "R"},
	} {
		got, err := ParseRoleARN(arn)
		if err != nil || got != want || got.String() != arn {
			t.Errorf("ParseRoleARN(%q) = %+v, %v; back: %s", arn, got, err, got)
		}
		if session := got.SessionARN("alice-nb"); session != "arn:"+want.Partition+":sts::111122223333:assumed-role/"+want.Name+"/alice-nb" {
			t.Errorf("a session of %s is called %s", arn, session)
		}
	}
	for _, arn := range []string{
		"", "R", "arn:aws:iam::111122223333:role/", "arn:aws:iam::111122223333:role//R", "arn:aws:iam::111122223333:user/R",
		"arn:aws:iam:us-east-1:111122223333:role/R", "arn:aws:sts::111122223333:assumed-role/R/s", "arn:aws:iam::111122223333:role/R\n",
		"arn:aws:iam::11112222333a:role/R", "arn:aws:iam::111122223333:role/" + strings.Repeat("r", 65),
		"arn:aws:iam::111122223333:role/" + strings.Repeat("p/", 1100) + "R",
	} {
		if got, err := ParseRoleARN(arn); err == nil {
			t.Errorf("ParseRoleARN(%.80q) = %+v, want an error", arn, got)
		}
	}
}

func FuzzParse(f *testing.F) {
	for _, tt := range shapes {
		f.Add([]byte(tt.file))
		f.Add([]byte(tt.file[:len(tt.file)/2]))
	}
	f.Add([]byte(`{"ResourceArn":"arn:aws:sagemaker:us-west-2:111122223333:app/d-a/b/c/d","SpaceName":"é","SpaceName":"x"}`))
	var (
		region  = regexp.MustCompile(`^[a-z0-9-]+$`)
		account = regexp.MustCompile(`^[0-9]{12}$`)
	)
	f.Fuzz(func(t *testing.T, data []byte) {
		nb, err := Parse("f", data)
		if err != nil {
			if !strings.HasPrefix(err.Error(), "f: ") {
				t.Fatalf("error %q does not name the file", err)
			}
			return
		}
		if !region.MatchString(nb.Partition) || !region.MatchString(nb.Region) || !account.MatchString(nb.Account) {
			t.Fatalf("accepted %+v", nb)
		}
		for _, name := range []string{nb.InstanceName, nb.UserProfile, nb.Space, nb.App} {
			if name != "" && CheckName(name) != nil {
				t.Fatalf("accepted the name %q", name)
			}
		}
		if nb.ExecutionRoleARN != "" {
			if role, err := ParseRoleARN(nb.ExecutionRoleARN); err != nil || role.Account != nb.Account || role.Partition != nb.Partition {
				t.Fatalf("accepted the role %q", nb.ExecutionRoleARN)
			}
		}
		complete := map[Surface]bool{
			SurfaceNotebookInstance: nb.InstanceName != "" && nb.DomainID == "" && nb.UserProfile == "" && nb.Space == "",
			SurfaceStudioProfile:    nb.InstanceName == "" && nb.DomainID != "" && nb.UserProfile != "" && nb.Space == "" && nb.App != "",
			SurfaceStudioSpace:      nb.InstanceName == "" && nb.DomainID != "" && nb.Space != "" && nb.App != "",
			SurfaceUnifiedStudio:    nb.InstanceName == "",
		}
		if !complete[nb.Surface] {
			t.Fatalf("accepted an incomplete or contradictory %+v", nb)
		}
	})
}
