#!/bin/sh
# IAM documents for nbidentityd, mode launcher: 2 launcher roles, one for each
# notebook instance, take their tagged name in role NotebookWork.
#
# nbidentityd policy launcher -explain, with the same flags, prints what they
# allow and deny.
#
# usage: sh FILE
#
# WORK_POLICY_ARNS in the environment, separated by spaces: managed policies
# with the permissions for people's work, attached to every role under which
# they work.
#
# Give the daemon the work role, arn =
# "arn:aws-us-gov:iam::111122223333:role/NotebookWork" under [role] in its
# settings, and each notebook instance its launcher, while it is stopped:
#   aws sagemaker update-notebook-instance --notebook-instance-name NAME --role-arn arn:aws-us-gov:iam::111122223333:role/nb-launch/launch-NAME
#
# The tag nbidentity of a launcher is the name. Whoever may tag roles under
# /nb-launch/ (iam:TagRole, iam:UntagRole), make roles there, pass them or
# change a notebook's role (sagemaker:UpdateNotebookInstance) decides who is
# who: keep that to administrators. The work role is denied it.
#
# The launchers' permissions are all that root's own scripts on a notebook
# have. get_execution_role() of the SageMaker SDK returns the launcher, which
# cannot run jobs: pass
# arn:aws-us-gov:iam::111122223333:role/NotebookWork-jobs.
#
# The policies named nbidentity-guard deny the ways around the names: to
# sessions of administrators that work under these roles as well. PassRole to
# SageMaker is left for the roles of these documents only in the modes
# per-notebook and per-profile: name every role that jobs use.
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

set -eu
export AWS_PAGER=''

fail() {
  echo "$0: $1" >&2
  exit 1
}

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
account=111122223333

if ! { [ $# -eq 0 ]; }; then
  echo "usage: sh $0" >&2
  exit 2
fi

found=$(aws sts get-caller-identity --query Account --output text)
[ "$found" = "$account" ] || fail "these documents are for account $account, the credentials for $found"

# known ARN: whether the role or policy exists; any other failure ends the script.
known() {
  case $1 in
  *:role/*) set -- "$1" get-role --role-name "${1##*/}" --query Role.Arn ;;
  *) set -- "$1" get-policy --policy-arn "$1" --query Policy.Arn ;;
  esac
  arn=$1
  shift
  if is=$(aws iam "$@" --output text 2>"$work/error"); then
    [ "$is" = "$arn" ] || fail "there is $is, where these documents want $arn"
    return 0
  fi
  grep -q NoSuchEntity "$work/error" || fail "$(cat "$work/error")"
  return 1
}

# existing_role ARN: replace its trust policy; the first one stays in a file.
existing_role() {
  known "$1" || fail "there is no role $1"
  name=${1##*/}
  if [ ! -e "$name.trust.before.json" ]; then
    aws iam get-role --role-name "$name" --query Role.AssumeRolePolicyDocument --output json >"$work/before"
    mv "$work/before" "$name.trust.before.json"
    echo "$name: the trust policy until now is in $name.trust.before.json; this puts it back:"
    echo "  aws iam update-assume-role-policy --role-name $name --policy-document file://$name.trust.before.json"
  fi
  aws iam update-assume-role-policy --role-name "$name" --policy-document "file://$work/trust"
  echo "$name: trust policy replaced"
}

# made_role ARN PATH DESCRIPTION: make the role, or give it its trust policy.
made_role() {
  name=${1##*/}
  if known "$1"; then
    aws iam update-assume-role-policy --role-name "$name" --policy-document "file://$work/trust"
    echo "$name: trust policy replaced"
  else
    aws iam create-role --role-name "$name" --path "$2" --description "$3" --assume-role-policy-document "file://$work/trust" >"$work/out"
    echo "$name: made"
  fi
}

# inline ROLE NAME: store the inline policy.
inline() {
  aws iam put-role-policy --role-name "$1" --policy-name "$2" --policy-document "file://$work/policy"
  echo "$1: policy $2"
}

# managed ARN DESCRIPTION: make the policy, or a new version of it. IAM keeps
# five versions: the oldest makes room.
managed() {
  if ! known "$1"; then
    aws iam create-policy --policy-name "${1##*/}" --description "$2" --policy-document "file://$work/policy" >"$work/out"
    return
  fi
  versions=$(aws iam list-policy-versions --policy-arn "$1" --query 'Versions[?!IsDefaultVersion].VersionId' --output text)
  # shellcheck disable=SC2086
  set -- "$1" $versions
  arn=$1
  if [ $# -ge 5 ]; then
    while [ $# -gt 1 ]; do shift; done
    aws iam delete-policy-version --policy-arn "$arn" --version-id "$1"
  fi
  aws iam create-policy-version --policy-arn "$arn" --set-as-default --policy-document "file://$work/policy" >"$work/out"
}

# work_policies ROLE: attach what people need for their work.
work_policies() {
  for arn in ${WORK_POLICY_ARNS-}; do
    aws iam attach-role-policy --role-name "$1" --policy-arn "$arn"
  done
}

cat >"$work/trust" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "SageMaker",
      "Effect": "Allow",
      "Principal": {
        "Service": "sagemaker.amazonaws.com"
      },
      "Action": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity"
      ]
    }
  ]
}
END
made_role 'arn:aws-us-gov:iam::111122223333:role/NotebookWork-jobs' '/' 'Role that notebooks pass to SageMaker jobs'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "DenyEditingRoles",
      "Effect": "Deny",
      "Action": [
        "iam:AttachRolePolicy",
        "iam:CreateRole",
        "iam:DeleteRole",
        "iam:DeleteRolePolicy",
        "iam:DetachRolePolicy",
        "iam:PutRolePolicy",
        "iam:TagRole",
        "iam:UntagRole",
        "iam:UpdateAssumeRolePolicy"
      ],
      "Resource": [
        "arn:aws-us-gov:iam::111122223333:role/nb-launch/*",
        "arn:aws-us-gov:iam::111122223333:role/NotebookWork"
      ]
    },
    {
      "Sid": "DenyPassingLaunchers",
      "Effect": "Deny",
      "Action": "iam:PassRole",
      "Resource": "arn:aws-us-gov:iam::111122223333:role/nb-launch/*"
    },
    {
      "Sid": "DenyOtherNotebooks",
      "Effect": "Deny",
      "Action": [
        "sagemaker:CreatePresignedNotebookInstanceUrl",
        "sagemaker:UpdateNotebookInstance",
        "sagemaker:UpdateNotebookInstanceLifecycleConfig"
      ],
      "Resource": "*"
    }
  ]
}
END
inline 'NotebookWork-jobs' 'nbidentity-guard'
work_policies 'NotebookWork-jobs'

cat >"$work/trust" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "NbIdentityAssume",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws-us-gov:iam::111122223333:root"
      },
      "Action": "sts:AssumeRole",
      "Condition": {
        "ArnLike": {
          "aws:PrincipalArn": "arn:aws-us-gov:iam::111122223333:role/nb-launch/*"
        },
        "StringEquals": {
          "sts:SourceIdentity": "${aws:PrincipalTag/nbidentity}",
          "sts:RoleSessionName": "${aws:PrincipalTag/nbidentity}"
        },
        "Null": {
          "aws:PrincipalTag/nbidentity": "false",
          "aws:SourceIdentity": "true"
        }
      }
    },
    {
      "Sid": "NbIdentitySet",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws-us-gov:iam::111122223333:root"
      },
      "Action": "sts:SetSourceIdentity",
      "Condition": {
        "ArnLike": {
          "aws:PrincipalArn": "arn:aws-us-gov:iam::111122223333:role/nb-launch/*"
        },
        "StringEquals": {
          "sts:SourceIdentity": "${aws:PrincipalTag/nbidentity}"
        }
      }
    }
  ]
}
END
made_role 'arn:aws-us-gov:iam::111122223333:role/NotebookWork' '/' 'Role under which all notebooks work, each by its own name'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "PassJobRoles",
      "Effect": "Allow",
      "Action": "iam:PassRole",
      "Resource": "arn:aws-us-gov:iam::111122223333:role/NotebookWork-jobs",
      "Condition": {
        "StringEquals": {
          "iam:PassedToService": "sagemaker.amazonaws.com"
        }
      }
    }
  ]
}
END
inline 'NotebookWork' 'nbidentity'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "DenyEditingRoles",
      "Effect": "Deny",
      "Action": [
        "iam:AttachRolePolicy",
        "iam:CreateRole",
        "iam:DeleteRole",
        "iam:DeleteRolePolicy",
        "iam:DetachRolePolicy",
        "iam:PutRolePolicy",
        "iam:TagRole",
        "iam:UntagRole",
        "iam:UpdateAssumeRolePolicy"
      ],
      "Resource": [
        "arn:aws-us-gov:iam::111122223333:role/nb-launch/*",
        "arn:aws-us-gov:iam::111122223333:role/NotebookWork"
      ]
    },
    {
      "Sid": "DenyPassingLaunchers",
      "Effect": "Deny",
      "Action": "iam:PassRole",
      "Resource": "arn:aws-us-gov:iam::111122223333:role/nb-launch/*"
    },
    {
      "Sid": "DenyOtherNotebooks",
      "Effect": "Deny",
      "Action": [
        "sagemaker:CreatePresignedNotebookInstanceUrl",
        "sagemaker:UpdateNotebookInstance",
        "sagemaker:UpdateNotebookInstanceLifecycleConfig"
      ],
      "Resource": "*"
    }
  ]
}
END
inline 'NotebookWork' 'nbidentity-guard'
work_policies 'NotebookWork'

cat >"$work/trust" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "SageMaker",
      "Effect": "Allow",
      "Principal": {
        "Service": "sagemaker.amazonaws.com"
      },
      "Action": "sts:AssumeRole"
    }
  ]
}
END
made_role 'arn:aws-us-gov:iam::111122223333:role/nb-launch/launch-Bob-nb' '/nb-launch/' 'Launcher of notebook instance Bob-nb'
aws iam tag-role --role-name 'launch-Bob-nb' --tags '[{"Key":"nbidentity","Value":"Bob-nb"}]'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "OnlyTheWorkRole",
      "Effect": "Allow",
      "Action": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity"
      ],
      "Resource": "arn:aws-us-gov:iam::111122223333:role/NotebookWork"
    },
    {
      "Sid": "LifecycleLog",
      "Effect": "Allow",
      "Action": [
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents"
      ],
      "Resource": "arn:aws-us-gov:logs:us-gov-west-1:111122223333:log-group:/aws/sagemaker/*"
    },
    {
      "Sid": "OwnNotebook",
      "Effect": "Allow",
      "Action": [
        "sagemaker:DescribeNotebookInstance",
        "sagemaker:ListTags",
        "sagemaker:StopNotebookInstance"
      ],
      "Resource": [
        "arn:aws-us-gov:sagemaker:us-gov-west-1:111122223333:notebook-instance/Bob-nb",
        "arn:aws-us-gov:sagemaker:us-gov-west-1:111122223333:notebook-instance/bob-nb"
      ]
    },
    {
      "Sid": "NbIdentityPackage",
      "Effect": "Allow",
      "Action": "s3:GetObject",
      "Resource": "arn:aws-us-gov:s3:::example-bucket/*"
    }
  ]
}
END
inline 'launch-Bob-nb' 'nbidentity'

cat >"$work/trust" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "SageMaker",
      "Effect": "Allow",
      "Principal": {
        "Service": "sagemaker.amazonaws.com"
      },
      "Action": "sts:AssumeRole"
    }
  ]
}
END
made_role 'arn:aws-us-gov:iam::111122223333:role/nb-launch/launch-alice-nb' '/nb-launch/' 'Launcher of notebook instance alice-nb'
aws iam tag-role --role-name 'launch-alice-nb' --tags '[{"Key":"nbidentity","Value":"alice-nb"}]'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "OnlyTheWorkRole",
      "Effect": "Allow",
      "Action": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity"
      ],
      "Resource": "arn:aws-us-gov:iam::111122223333:role/NotebookWork"
    },
    {
      "Sid": "LifecycleLog",
      "Effect": "Allow",
      "Action": [
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents"
      ],
      "Resource": "arn:aws-us-gov:logs:us-gov-west-1:111122223333:log-group:/aws/sagemaker/*"
    },
    {
      "Sid": "OwnNotebook",
      "Effect": "Allow",
      "Action": [
        "sagemaker:DescribeNotebookInstance",
        "sagemaker:ListTags",
        "sagemaker:StopNotebookInstance"
      ],
      "Resource": "arn:aws-us-gov:sagemaker:us-gov-west-1:111122223333:notebook-instance/alice-nb"
    },
    {
      "Sid": "NbIdentityPackage",
      "Effect": "Allow",
      "Action": "s3:GetObject",
      "Resource": "arn:aws-us-gov:s3:::example-bucket/*"
    }
  ]
}
END
inline 'launch-alice-nb' 'nbidentity'
