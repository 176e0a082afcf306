package rendering

import (
	"crypto/sha256"
	"fmt"
	"path"
	"strings"

	"github.com/nbidentityd/nbidentityd/internal/iampolicy"
	"github.com/nbidentityd/nbidentityd/internal/iampolicy/ordered"
)

// Fleet is how the daemon comes onto the notebooks of a set: a package in S3,
// and the lifecycle configurations that fetch it. Each value goes into the
// template as it is; the caller has checked them.
type Fleet struct {
	File         string // the package on the administrator's machine
	SHA256       string // of the package
	Bucket, Key  string // where the lifecycle configurations look for it
	BucketExists bool   // otherwise the template makes it
	Script       string // of the lifecycle configurations
	// Apps are the types of Studio apps that get the script; none means
	// notebook instances.
	Apps []string
}

// FleetFormats returns the formats that can hold a fleet.
func FleetFormats() []Format { return []Format{CloudFormationJSON, CloudFormationYAML, Terraform} }

func (f *Fleet) title() string {
	if f == nil {
		return "IAM documents"
	}
	return "Package bucket, lifecycle configuration and IAM documents"
}

func (f *Fleet) command() string {
	if f == nil {
		return "policy"
	}
	return "fleet"
}

// name is that of a lifecycle configuration. One of Studio cannot be changed,
// only replaced, and its name must then be another.
func (f *Fleet) name(app string) string {
	if app == "" {
		return "nbidentityd"
	}
	return fmt.Sprintf("nbidentityd-%s-%.12x", strings.ToLower(app), sha256.Sum256([]byte(f.Script)))
}

// steps are what the administrator does after the template.
func (f *Fleet) steps(s *iampolicy.Set, format Format) []string {
	if f == nil {
		return nil
	}
	var steps []string
	if format != Terraform {
		steps = append(steps, fmt.Sprintf("Then put the package where the script looks for it:\naws s3 cp %s s3://%s/%s", f.File, f.Bucket, f.Key))
	}
	if len(f.Apps) == 0 {
		return append(steps, "Then give each notebook instance the lifecycle configuration while it is stopped:\naws sagemaker update-notebook-instance --notebook-instance-name NAME --lifecycle-config-name "+f.name(""))
	}
	var settings []string
	for _, app := range f.Apps {
		arn := fmt.Sprintf("arn:%s:sagemaker:%s:%s:studio-lifecycle-config/%s", s.Partition, orRegion(s.Region), s.Account, f.name(app))
		if app == "JupyterLab" || app == "CodeEditor" {
			settings = append(settings, app+"AppSettings.BuiltInLifecycleConfigArn = "+arn)
		} else { // Studio Classic, which has none built in
			settings = append(settings, app+"AppSettings.LifecycleConfigArns and .DefaultResourceSpec.LifecycleConfigArn = "+arn)
		}
	}
	return append(steps, "Then make it the domain's, in DefaultUserSettings and DefaultSpaceSettings (aws sagemaker update-domain; send the app settings that are there along, aws sagemaker describe-domain shows them):\n"+strings.Join(settings, "\n"))
}

func orRegion(region string) string {
	if region == "" {
		return "REGION"
	}
	return region
}

// bucketPolicy refuses plain HTTP. Who may read is for the roles to say, and
// what is fetched is checked against the script.
func (f *Fleet) bucketPolicy(s *iampolicy.Set) ordered.Object {
	arn := "arn:" + s.Partition + ":s3:::" + f.Bucket
	return ordered.Object{{Name: "Version", Value: "2012-10-17"}, {Name: "Statement", Value: ordered.List{ordered.Object{
		{Name: "Sid", Value: "DenyPlainHTTP"}, {Name: "Effect", Value: "Deny"}, {Name: "Principal", Value: "*"}, {Name: "Action", Value: "s3:*"},
		{Name: "Resource", Value: []string{arn, arn + "/*"}},
		{Name: "Condition", Value: ordered.Object{{Name: "Bool", Value: ordered.Object{{Name: "aws:SecureTransport", Value: "false"}}}}},
	}}}}
}

// cloudFormation are the resources beside the roles.
func (f *Fleet) cloudFormation(s *iampolicy.Set, ids *identifiers) ordered.Object {
	if f == nil {
		return nil
	}
	var resources ordered.Object
	add := func(id, kind string, properties ordered.Object, more ...ordered.Member) string {
		id = ids.of(id)
		resource := append(ordered.Object{{Name: "Type", Value: kind}}, more...)
		resources = append(resources, ordered.Member{Name: id, Value: append(resource, ordered.Member{Name: "Properties", Value: properties})})
		return id
	}
	if !f.BucketExists {
		bucket := add("PackageBucket", "AWS::S3::Bucket", ordered.Object{{Name: "BucketName", Value: f.Bucket},
			{Name: "VersioningConfiguration", Value: ordered.Object{{Name: "Status", Value: "Enabled"}}},
			{Name: "PublicAccessBlockConfiguration", Value: ordered.Object{{Name: "BlockPublicAcls", Value: true}, {Name: "BlockPublicPolicy", Value: true},
				{Name: "IgnorePublicAcls", Value: true}, {Name: "RestrictPublicBuckets", Value: true}}}},
			ordered.Member{Name: "DeletionPolicy", Value: "Retain"}, ordered.Member{Name: "UpdateReplacePolicy", Value: "Retain"})
		add("PackageBucketPolicy", "AWS::S3::BucketPolicy", ordered.Object{{Name: "Bucket", Value: fn("Ref", bucket)}, {Name: "PolicyDocument", Value: f.bucketPolicy(s)}})
	}
	content := fn("Fn::Base64", f.Script)
	if len(f.Apps) == 0 {
		add("LifecycleConfig", "AWS::SageMaker::NotebookInstanceLifecycleConfig", ordered.Object{
			{Name: "NotebookInstanceLifecycleConfigName", Value: f.name("")},
			{Name: "OnStart", Value: ordered.List{ordered.Object{{Name: "Content", Value: content}}}}})
	}
	for _, app := range f.Apps {
		add("LifecycleConfig"+app, "AWS::SageMaker::StudioLifecycleConfig", ordered.Object{
			{Name: "StudioLifecycleConfigName", Value: f.name(app)}, {Name: "StudioLifecycleConfigAppType", Value: app},
			{Name: "StudioLifecycleConfigContent", Value: content}})
	}
	return resources
}

// terraform adds the blocks beside the roles.
func (f *Fleet) terraform(s *iampolicy.Set, t *module) {
	if f == nil {
		return
	}
	fmt.Fprintf(&t.b, "\nvariable \"package_file\" {\n  description = \"Path of %s\"\n  type        = string\n  default     = %s\n}\n", path.Base(f.Key), ordered.Quote(f.File))
	bucket := ordered.Quote(f.Bucket)
	if !f.BucketExists {
		t.block(`resource "aws_s3_bucket" "package"`, []attribute{{"bucket", bucket}}, "\n  lifecycle {\n    prevent_destroy = true\n  }\n")
		bucket = "aws_s3_bucket.package.id"
		t.block(`resource "aws_s3_bucket_versioning" "package"`, []attribute{{"bucket", bucket}}, "\n  versioning_configuration {\n    status = \"Enabled\"\n  }\n")
		t.block(`resource "aws_s3_bucket_public_access_block" "package"`, []attribute{{"bucket", bucket}, {"block_public_acls", "true"},
			{"block_public_policy", "true"}, {"ignore_public_acls", "true"}, {"restrict_public_buckets", "true"}}, "")
		t.block(`resource "aws_s3_bucket_policy" "package"`, []attribute{{"bucket", bucket}, {"policy", t.document(f.bucketPolicy(s))}}, "")
	}
	t.block(`resource "aws_s3_object" "package"`, []attribute{{"bucket", bucket}, {"key", ordered.Quote(f.Key)}, {"source", "var.package_file"},
		{"source_hash", ordered.Quote(f.SHA256)}}, "")
	fmt.Fprintf(&t.b, "\nlocals {\n  on_start = <<SCRIPT\n%sSCRIPT\n}\n", strings.NewReplacer("${", "$${", "%{", "%%{").Replace(f.Script))
	if len(f.Apps) == 0 {
		t.block(`resource "aws_sagemaker_notebook_instance_lifecycle_configuration" "nbidentityd"`, []attribute{
			{"name", ordered.Quote(f.name(""))}, {"on_start", "base64encode(local.on_start)"}}, "")
	}
	for _, app := range f.Apps {
		t.block(fmt.Sprintf("resource \"aws_sagemaker_studio_lifecycle_config\" %q", strings.ToLower(app)), []attribute{
			{"studio_lifecycle_config_name", ordered.Quote(f.name(app))}, {"studio_lifecycle_config_app_type", ordered.Quote(app)},
			{"studio_lifecycle_config_content", "base64encode(local.on_start)"}}, "")
	}
}
