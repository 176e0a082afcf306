# Package bucket, lifecycle configuration and IAM documents for nbidentityd,
# mode self: role AmazonSageMaker-ExecutionRole assumes itself under the name
# of its notebook or user profile.
#
# nbidentityd fleet self -explain, with the same flags, prints what they allow
# and deny.
#
# Deploy in account 111122223333. Roles that exist are imported: the plan
# shows what changes on them. terraform destroy refuses to delete them; use
# terraform state rm.
#
# Then give each notebook instance the lifecycle configuration while it is
# stopped:
#   aws sagemaker update-notebook-instance --notebook-instance-name NAME --lifecycle-config-name nbidentityd
#
# If the Studio domain sets source identities
# (ExecutionRoleIdentityConfig=USER_PROFILE_NAME), its sessions cannot take a
# name by these documents: use mode studio-propagation.
#
# Jobs, endpoints and pipelines that use role AmazonSageMaker-ExecutionRole
# keep working: SageMaker may set a source identity on it.
#
# The policies named nbidentity-guard deny the ways around the names: to
# sessions of administrators that work under these roles as well. PassRole to
# SageMaker is left for the roles of these documents only in the modes
# per-notebook and per-profile: name every role that jobs use.
#
# The trust policy of each role that exists (AmazonSageMaker-ExecutionRole) is
# replaced as a whole. Other statements that it has today (for Glue, Lambda,
# people, …) must be added again; the statement for sagemaker.amazonaws.com
# must keep both actions.
#
# Every role that a named session passes to a SageMaker job, or assumes
# itself, must allow sts:SetSourceIdentity beside sts:AssumeRole in its trust
# policy, or the call fails with AccessDenied or ValidationError: job roles
# (principal sagemaker.amazonaws.com), pipeline roles, roles of other
# accounts; for roles that notebooks assume, also in the notebooks' own
# policies. Name job roles with the job-role option and they are included
# here.
#
# Amazon EMR: the cluster's security configuration needs
# "PropagateSourceIdentity": true under
# AuthorizationConfiguration.IAMConfiguration.ApplicationScopedIAMRoleConfiguration,
# and the runtime role's trust policy must allow the cluster's instance
# profile role sts:SetSourceIdentity beside sts:AssumeRole and sts:TagSession.
#
# Policies and reports that look for the session name SageMaker (aws:userid
# like *:SageMaker) no longer match named sessions.

terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.0"
    }
  }
}

variable "work_policy_arns" {
  description = "ARNs of managed policies with the permissions for people's work, attached to every role under which they work"
  type        = list(string)
  default     = []
}

import {
  to = aws_iam_role.amazonsagemaker_executionrole
  id = "AmazonSageMaker-ExecutionRole"
}

resource "aws_iam_role" "amazonsagemaker_executionrole" {
  name = "AmazonSageMaker-ExecutionRole"
  path = "/service-role/"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "SageMaker"
        Effect = "Allow"
        Principal = {
          Service = "sagemaker.amazonaws.com"
        }
        Action = ["sts:AssumeRole", "sts:SetSourceIdentity"]
      },
      {
        Sid    = "NbIdentityAssume"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:root"
        }
        Action = "sts:AssumeRole"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
          }
          StringEquals = {
            "sts:SourceIdentity"  = ["alice-nb", "bob-nb"]
            "sts:RoleSessionName" = "$${sts:SourceIdentity}"
          }
          Null = {
            "aws:SourceIdentity" = "true"
          }
        }
      },
      {
        Sid    = "NbIdentitySet"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:root"
        }
        Action = "sts:SetSourceIdentity"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
          }
          StringEquals = {
            "sts:SourceIdentity" = ["alice-nb", "bob-nb"]
          }
        }
      },
    ]
  })

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [description, max_session_duration, permissions_boundary, tags, tags_all]
  }
}

resource "aws_iam_role_policy" "amazonsagemaker_executionrole_nbidentity" {
  name = "nbidentity"
  role = aws_iam_role.amazonsagemaker_executionrole.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "NbIdentity"
        Effect   = "Allow"
        Action   = ["sts:AssumeRole", "sts:SetSourceIdentity"]
        Resource = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
      },
      {
        Sid    = "NbIdentityDiscover"
        Effect = "Allow"
        Action = [
          "sagemaker:DescribeDomain",
          "sagemaker:DescribeNotebookInstance",
          "sagemaker:DescribeSpace",
          "sagemaker:DescribeUserProfile",
        ]
        Resource = [
          "arn:aws:sagemaker:*:111122223333:domain/*",
          "arn:aws:sagemaker:*:111122223333:notebook-instance/*",
          "arn:aws:sagemaker:*:111122223333:space/*",
          "arn:aws:sagemaker:*:111122223333:user-profile/*",
        ]
      },
      {
        Sid      = "NbIdentityPackage"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "arn:aws:s3:::example-bucket/nbidentityd/*"
      },
    ]
  })
}

resource "aws_iam_role_policy" "amazonsagemaker_executionrole_nbidentity_guard" {
  name = "nbidentity-guard"
  role = aws_iam_role.amazonsagemaker_executionrole.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "DenyEditingRoles"
        Effect = "Deny"
        Action = [
          "iam:AttachRolePolicy",
          "iam:CreateRole",
          "iam:DeleteRole",
          "iam:DeleteRolePolicy",
          "iam:DetachRolePolicy",
          "iam:PutRolePolicy",
          "iam:TagRole",
          "iam:UntagRole",
          "iam:UpdateAssumeRolePolicy",
        ]
        Resource = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
      },
      {
        Sid    = "DenyOtherNotebooks"
        Effect = "Deny"
        Action = [
          "sagemaker:CreatePresignedNotebookInstanceUrl",
          "sagemaker:UpdateNotebookInstance",
          "sagemaker:UpdateNotebookInstanceLifecycleConfig",
        ]
        Resource = "*"
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "amazonsagemaker_executionrole_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.amazonsagemaker_executionrole.name
  policy_arn = each.value
}

variable "package_file" {
  description = "Path of nbidentityd-1.2.3-1.x86_64.rpm"
  type        = string
  default     = "dist/nbidentityd-1.2.3-1.x86_64.rpm"
}

resource "aws_s3_bucket" "package" {
  bucket = "example-bucket"

  lifecycle {
    prevent_destroy = true
  }
}

resource "aws_s3_bucket_versioning" "package" {
  bucket = aws_s3_bucket.package.id

  versioning_configuration {
    status = "Enabled"
  }
}

resource "aws_s3_bucket_public_access_block" "package" {
  bucket                  = aws_s3_bucket.package.id
  block_public_acls       = true
  block_public_policy     = true
  ignore_public_acls      = true
  restrict_public_buckets = true
}

resource "aws_s3_bucket_policy" "package" {
  bucket = aws_s3_bucket.package.id

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid       = "DenyPlainHTTP"
        Effect    = "Deny"
        Principal = "*"
        Action    = "s3:*"
        Resource  = ["arn:aws:s3:::example-bucket", "arn:aws:s3:::example-bucket/*"]
        Condition = {
          Bool = {
            "aws:SecureTransport" = "false"
          }
        }
      },
    ]
  })
}

resource "aws_s3_object" "package" {
  bucket      = aws_s3_bucket.package.id
  key         = "nbidentityd/nbidentityd-1.2.3-1.x86_64.rpm"
  source      = var.package_file
  source_hash = "c5919a885d0e983e8bcfedc3ad1ab67b4020c2c31be5bfc2e8117f072fdc9106"
}

locals {
  on_start = <<SCRIPT
#!/usr/bin/awk BEGIN{exit(system("/bin/sh\t"ARGV[1]))}#
NBIDENTITY_PACKAGE='s3://example-bucket/nbidentityd/nbidentityd-1.2.3-1.x86_64.rpm' #
NBIDENTITY_SHA256='c5919a885d0e983e8bcfedc3ad1ab67b4020c2c31be5bfc2e8117f072fdc9106' #
# shellcheck shell=sh
# nbidentityd on a SageMaker notebook instance (Amazon Linux 2 or 2023): the
# on-start script of its lifecycle configuration. It installs a package and
# starts the service. The root file system is new at every start, so there is
# nothing for an on-create script to do. README.md in lifecycle/ says the rest.
#
# Set these here or in the environment.
: "$${NBIDENTITY_PACKAGE:=}"        # s3://bucket/key or /path of the .rpm (or .deb)
: "$${NBIDENTITY_SHA256:=}"         # of the package; S3 needs it
: "$${NBIDENTITY_FAIL_CLOSED:=0}"   # 1: the notebook instance does not start without us
: "$${NBIDENTITY_S3_ENDPOINT:=}"    # URL of a VPC endpoint without private DNS
: "$${NBIDENTITY_SETTINGS:=}"       # lines of nbidentityd.toml; empty: as it is in the package
#
# With Windows line ends neither the kernel nor a shell reads a script. The
# first line works all the same, and so does this one, which says it.
nl='
'; case $nl in ?) ;; *) echo "nbidentityd: not installed: this script has Windows line ends (CRLF): save it with Unix line ends (LF) and attach it again"; exit "$NBIDENTITY_FAIL_CLOSED" ;; esac #

# The platform's PATH first; what AWS documents for it has gaps.
PATH=$${NBIDENTITY_PATH:-$PATH:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin}
export PATH
root=$${NBIDENTITY_ROOT:-} # a prefix for files, for trying this script
dir=$root/run/nbidentityd-lifecycle

# --- the same in both scripts, from here ---
set -u
umask 022
fetch_limit=120  # seconds for the download
answer_limit=15  # seconds for the first credentials
patience=25      # seconds until the notebook's start goes on without us
case $NBIDENTITY_FAIL_CLOSED in
1) answer_limit=60 patience=270 ;; # AWS ends a script after 300
*) NBIDENTITY_FAIL_CLOSED=0 ;;
esac

say() { printf 'nbidentityd: %s\n' "$*"; }

# fail ends the work, which runs in a subshell.
fail() {
  say "$*"
  exit 1
}

# run runs a command with a limit and says why it failed.
run() {
  limit=$1 what=$2
  shift 2
  timeout -k 5 "$limit" "$@" >"$dir/output" 2>&1 && return
  code=$?
  [ "$code" -ne 124 ] || say "$what: not done within $limit s"
  tail -n 5 "$dir/output" | cut -c 1-300 | sed "s|^|nbidentityd: $what: |"
  return "$code"
}

sum() { sha256sum "$1" | cut -d ' ' -f 1; }

# get_package sets package to a file that is there and the right one.
get_package() {
  case $NBIDENTITY_PACKAGE in
  s3://*/*) from_s3 ;;
  /*) package=$NBIDENTITY_PACKAGE ;;
  *) fail "not installed: NBIDENTITY_PACKAGE is \"$NBIDENTITY_PACKAGE\": set it to s3://bucket/key or to an absolute path" ;;
  esac
  [ -r "$package" ] || fail "not installed: there is no package $package: put it there, or set NBIDENTITY_PACKAGE to one in S3"
  sum=$(sum "$package")
  case $NBIDENTITY_SHA256 in
  '' | "$sum") ;;
  *) fail "not installed: $NBIDENTITY_PACKAGE has the SHA-256 $sum, and NBIDENTITY_SHA256 is $NBIDENTITY_SHA256: correct the one that is wrong" ;;
  esac
}

from_s3() {
  [ -n "$NBIDENTITY_SHA256" ] || fail "not installed: NBIDENTITY_SHA256 is not set: a package from S3 needs it; SHA256SUMS beside the packages holds it"
  package=$dir/$${NBIDENTITY_PACKAGE##*/}
  if [ -e "$package" ] && [ "$(sum "$package")" = "$NBIDENTITY_SHA256" ]; then return; fi
  command -v aws >/dev/null || fail "not installed: the program aws is not on this image: install the AWS CLI, or set NBIDENTITY_PACKAGE to a path of the image"
  # Not by the user's configuration, which may name us, who are not there yet.
  unset AWS_PROFILE AWS_DEFAULT_PROFILE
  export AWS_CONFIG_FILE=/dev/null AWS_SHARED_CREDENTIALS_FILE=/dev/null AWS_METADATA_SERVICE_NUM_ATTEMPTS=5 AWS_EC2_METADATA_DISABLED=false
  region=$(sed -n 's/.*"ResourceArn"[^"]*"arn:[^:]*:[^:]*:\([^:]*\):.*/\1/p' /opt/ml/metadata/resource-metadata.json 2>/dev/null | head -n 1)
  [ -z "$region" ] || export AWS_DEFAULT_REGION="$region"
  set -- s3 cp --only-show-errors --cli-connect-timeout 10 --cli-read-timeout 30 "$NBIDENTITY_PACKAGE" "$package"
  [ -z "$NBIDENTITY_S3_ENDPOINT" ] || set -- "$@" --endpoint-url "$NBIDENTITY_S3_ENDPOINT"
  run "$fetch_limit" "fetching $NBIDENTITY_PACKAGE" aws "$@" ||
    fail "not installed: no package from S3: the role needs s3:GetObject on it (nbidentityd policy -package), a VPC without internet access an endpoint of S3"
}

# report waits for credentials and says whose name they carry.
report() {
  deadline=$(($(date +%s) + answer_limit))
  until reason=$(timeout -k 1 5 "$@" credentials 2>&1 >/dev/null); do
    if [ -e "$dir/aside" ]; then
      say "$(cat "$dir/aside")"
      return
    fi
    [ "$(date +%s)" -lt "$deadline" ] || fail "installed, but there are no credentials with a name: $${reason:-no answer}"
    sleep 0.5
  done
  say "$(timeout -k 1 5 "$@" status 2>&1 | head -n 1)"
}

# The work goes on in the background when it takes long: a start must not
# depend on the network. Then only the log says how it ends.
main() {
  if ! { mkdir -p "$dir" && chmod 0755 "$dir" && : >>"$dir/on-start.log"; } 2>/dev/null; then
    say "not installed: $dir cannot be written"
    exit "$NBIDENTITY_FAIL_CLOSED"
  fi
  [ "$(wc -c <"$dir/on-start.log")" -lt 65536 ] || : >"$dir/on-start.log"
  seen=$(wc -c <"$dir/on-start.log")
  result=$dir/result.$$
  rm -f "$result"
  (
    trap '' HUP
    exec </dev/null >>"$dir/on-start.log" 2>&1 3>&- 4>&- 5>&- 6>&- 7>&- 9>&-
    code=0
    (exec 8>"$dir/on-start.lock" && flock -w 300 8 && work) || code=1
    echo "$code" >"$result"
  ) &
  fifths=0
  until [ -s "$result" ] || [ "$fifths" -ge $((patience * 5)) ]; do
    sleep 0.2
    fifths=$((fifths + 1))
  done
  tail -c "+$((seen + 1))" "$dir/on-start.log"
  if [ ! -s "$result" ]; then
    say "not done after $patience s: the work goes on in the background; $dir/on-start.log says how it ends"
    exit "$NBIDENTITY_FAIL_CLOSED"
  fi
  code=$(cat "$result")
  rm -f "$result"
  [ "$code" = 0 ] || [ "$NBIDENTITY_FAIL_CLOSED" = 1 ] || say "the notebook starts all the same (NBIDENTITY_FAIL_CLOSED=1 would stop it)"
  exit $((code * NBIDENTITY_FAIL_CLOSED))
}
# --- to here ---

work() {
  [ -n "$root" ] || [ "$(id -u)" = 0 ] || fail "not installed: this script runs as root, as the on-start script of a notebook instance"
  take_copy
  get_package
  now=$(printf '%s' "$sum $NBIDENTITY_SETTINGS" | sha256sum)
  if [ "$(cat "$dir/installed" 2>/dev/null)" = "$now" ] && systemctl is-active --quiet nbidentityd.service; then
    say "this package is installed and running"
  else
    install_package
    printf '%s' "$now" >"$dir/installed"
  fi
  report nbidentity
}

# take_copy looks at a package of this machine once, by a descriptor: who may write
# where it lies could put another in its place between the check and the install.
take_copy() {
  case $NBIDENTITY_PACKAGE in /*) ;; *) return ;; esac
  [ -r "$NBIDENTITY_PACKAGE" ] || return 0 # get_package says so
  exec 7<"$NBIDENTITY_PACKAGE"
  case $NBIDENTITY_SHA256,$(stat -L -c %u /proc/self/fd/7) in
  ,0 | ,"$(id -u)") ;;
  ,*) fail "not installed: $NBIDENTITY_PACKAGE belongs to another user, who could change it: set NBIDENTITY_SHA256, or take a package in S3" ;;
  esac
  copy=$dir/copy-$${NBIDENTITY_PACKAGE##*/}
  cat <&7 >"$copy" || fail "not installed: $NBIDENTITY_PACKAGE cannot be copied to $dir"
  exec 7<&-
  NBIDENTITY_PACKAGE=$copy
}

install_package() {
  rm -f "$dir/installed"
  case $package in
  *.rpm) set -- rpm -U --replacepkgs --oldpackage "$package" ;;
  *.deb) set -- dpkg --install --force-confold "$package" ;;
  *) fail "not installed: $package: a notebook instance takes the .rpm; the .tar.gz is for Studio" ;;
  esac
  run 60 "$1 $package" "$@" || fail "not installed: the package does not install"
  if [ -n "$NBIDENTITY_SETTINGS" ]; then
    mkdir -p "$root/etc/nbidentityd" && printf '%s\n' "$NBIDENTITY_SETTINGS" >"$root/etc/nbidentityd/nbidentityd.toml"
  fi
  run 10 settings nbidentityd run -check || fail "installed, but not started"
  run 30 systemctl systemctl daemon-reload
  # Jupyter hands a new environment to its kernels only when it starts anew.
  run 60 "nbidentityd install" nbidentityd install -restart-jupyter || say "some of the notebook's configuration could not be written; the daemon tries again"
  run 30 systemctl systemctl enable nbidentityd.socket nbidentityd.service
  run 30 systemctl systemctl start nbidentityd.socket
  if ! run 60 systemctl systemctl restart nbidentityd.service; then
    run 30 systemctl systemctl disable --now nbidentityd.service nbidentityd.socket
    run 60 "nbidentityd uninstall" nbidentityd uninstall
    fail "installed, but systemd does not start it: systemctl status nbidentityd.service"
  fi
  say "installed: $(nbidentityd version)"
}

main
SCRIPT
}

resource "aws_sagemaker_notebook_instance_lifecycle_configuration" "nbidentityd" {
  name     = "nbidentityd"
  on_start = base64encode(local.on_start)
}
