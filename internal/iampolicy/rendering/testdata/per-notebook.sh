#!/bin/sh
# IAM documents for nbidentityd, mode per-notebook: 2 execution roles, one for
# each notebook instance, each assumes itself under its one name.
#
# nbidentityd policy per-notebook -explain, with the same flags, prints what
# they allow and deny.
#
# usage: sh FILE
#
# WORK_POLICY_ARNS in the environment, separated by spaces: managed policies
# with the permissions for people's work, attached to every role under which
# they work.
#
# DenyUnattributed leaves to sessions without a name: sts:AssumeRole,
# sts:SetSourceIdentity (the daemon takes the name with them);
# sts:GetCallerIdentity (cannot be denied anyway); logs:CreateLogGroup,
# logs:CreateLogStream, logs:DescribeLogStreams, logs:PutLogEvents (lifecycle
# configurations write their log); sagemaker:DescribeDomain,
# sagemaker:DescribeSpace, sagemaker:DescribeUserProfile (the daemon asks for
# the owner of a private space and for the execution role);
# sagemaker:DescribeNotebookInstance (the daemon asks for the execution role;
# scripts that stop idle notebooks ask for their state);
# sagemaker:StopNotebookInstance (root's scripts that stop idle notebooks);
# sagemaker:ListTags (scripts that set environment variables from tags).
# Root's own scripts on a notebook that need more should ask the daemon for
# credentials instead.
#
# DenyUnattributed also denies the lifecycle configuration to fetch
# nbidentityd from S3 with the base credentials: name the bucket (option
# package), unless the package comes another way.
#
# DenyUnattributed breaks every use of the role that does not begin in a named
# notebook session: hosted models and their containers, batch transform,
# scheduled pipelines, feature store, anything started from the console or by
# CI with this role. Give those a role of their own. Jobs that a named session
# starts inherit its name and go on working.
#
# DenyUnattributed spares calls that an AWS service makes for a session
# (aws:ViaAWSService): whether aws:SourceIdentity is in those requests is not
# documented. Deploy it last, when the daemon runs everywhere and doctor finds
# nothing: until then it locks notebooks out.
#
# Give each notebook instance its role, while it is stopped:
#   aws sagemaker update-notebook-instance --notebook-instance-name NAME --role-arn arn:aws-cn:iam::111122223333:role/nb/nb-NAME
#
# The policies named nbidentity-guard deny the ways around the names: to
# sessions of administrators that work under these roles as well. PassRole to
# SageMaker is left for the roles of these documents only in the modes
# per-notebook and per-profile: name every role that jobs use.
#
# The trust policy of each role that exists (JobRole) is replaced as a whole.
# Other statements that it has today (for Glue, Lambda, people, …) must be
# added again; the statement for sagemaker.amazonaws.com must keep both
# actions.
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
    },
    {
      "Sid": "NbIdentityAssume",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws-cn:iam::111122223333:root"
      },
      "Action": "sts:AssumeRole",
      "Condition": {
        "ArnEquals": {
          "aws:PrincipalArn": "arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb"
        },
        "StringEquals": {
          "sts:SourceIdentity": "notebook@Alice-nb",
          "sts:RoleSessionName": "notebook@Alice-nb"
        },
        "Null": {
          "aws:SourceIdentity": "true"
        }
      }
    },
    {
      "Sid": "NbIdentitySet",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws-cn:iam::111122223333:root"
      },
      "Action": "sts:SetSourceIdentity",
      "Condition": {
        "ArnEquals": {
          "aws:PrincipalArn": "arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb"
        },
        "StringEquals": {
          "sts:SourceIdentity": "notebook@Alice-nb"
        }
      }
    }
  ]
}
END
made_role 'arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb' '/nb/' 'Execution role of notebook instance Alice-nb'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "NbIdentity",
      "Effect": "Allow",
      "Action": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity"
      ],
      "Resource": "arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb"
    },
    {
      "Sid": "NbIdentityDiscover",
      "Effect": "Allow",
      "Action": [
        "sagemaker:DescribeDomain",
        "sagemaker:DescribeNotebookInstance",
        "sagemaker:DescribeSpace",
        "sagemaker:DescribeUserProfile"
      ],
      "Resource": [
        "arn:aws-cn:sagemaker:cn-north-1:111122223333:domain/*",
        "arn:aws-cn:sagemaker:cn-north-1:111122223333:notebook-instance/*",
        "arn:aws-cn:sagemaker:cn-north-1:111122223333:space/*",
        "arn:aws-cn:sagemaker:cn-north-1:111122223333:user-profile/*"
      ]
    }
  ]
}
END
inline 'nb-Alice-nb' 'nbidentity'

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
      "Resource": "arn:aws-cn:iam::111122223333:role/nb/nb-*"
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
    },
    {
      "Sid": "DenyPassingRoles",
      "Effect": "Deny",
      "Action": "iam:PassRole",
      "NotResource": [
        "arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb",
        "arn:aws-cn:iam::111122223333:role/JobRole"
      ],
      "Condition": {
        "StringEquals": {
          "iam:PassedToService": "sagemaker.amazonaws.com"
        }
      }
    }
  ]
}
END
inline 'nb-Alice-nb' 'nbidentity-guard'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "DenyUnattributed",
      "Effect": "Deny",
      "NotAction": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity",
        "sts:GetCallerIdentity",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "sagemaker:DescribeDomain",
        "sagemaker:DescribeSpace",
        "sagemaker:DescribeUserProfile",
        "sagemaker:DescribeNotebookInstance",
        "sagemaker:StopNotebookInstance",
        "sagemaker:ListTags"
      ],
      "Resource": "*",
      "Condition": {
        "Null": {
          "aws:SourceIdentity": "true"
        },
        "Bool": {
          "aws:ViaAWSService": "false"
        }
      }
    }
  ]
}
END
inline 'nb-Alice-nb' 'nbidentity-deny-unattributed'
work_policies 'nb-Alice-nb'

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
    },
    {
      "Sid": "NbIdentityAssume",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws-cn:iam::111122223333:root"
      },
      "Action": "sts:AssumeRole",
      "Condition": {
        "ArnEquals": {
          "aws:PrincipalArn": "arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb"
        },
        "StringEquals": {
          "sts:SourceIdentity": "notebook@bob-nb",
          "sts:RoleSessionName": "notebook@bob-nb"
        },
        "Null": {
          "aws:SourceIdentity": "true"
        }
      }
    },
    {
      "Sid": "NbIdentitySet",
      "Effect": "Allow",
      "Principal": {
        "AWS": "arn:aws-cn:iam::111122223333:root"
      },
      "Action": "sts:SetSourceIdentity",
      "Condition": {
        "ArnEquals": {
          "aws:PrincipalArn": "arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb"
        },
        "StringEquals": {
          "sts:SourceIdentity": "notebook@bob-nb"
        }
      }
    }
  ]
}
END
made_role 'arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb' '/nb/' 'Execution role of notebook instance bob-nb'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "NbIdentity",
      "Effect": "Allow",
      "Action": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity"
      ],
      "Resource": "arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb"
    },
    {
      "Sid": "NbIdentityDiscover",
      "Effect": "Allow",
      "Action": [
        "sagemaker:DescribeDomain",
        "sagemaker:DescribeNotebookInstance",
        "sagemaker:DescribeSpace",
        "sagemaker:DescribeUserProfile"
      ],
      "Resource": [
        "arn:aws-cn:sagemaker:cn-north-1:111122223333:domain/*",
        "arn:aws-cn:sagemaker:cn-north-1:111122223333:notebook-instance/*",
        "arn:aws-cn:sagemaker:cn-north-1:111122223333:space/*",
        "arn:aws-cn:sagemaker:cn-north-1:111122223333:user-profile/*"
      ]
    }
  ]
}
END
inline 'nb-bob-nb' 'nbidentity'

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
      "Resource": "arn:aws-cn:iam::111122223333:role/nb/nb-*"
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
    },
    {
      "Sid": "DenyPassingRoles",
      "Effect": "Deny",
      "Action": "iam:PassRole",
      "NotResource": [
        "arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb",
        "arn:aws-cn:iam::111122223333:role/JobRole"
      ],
      "Condition": {
        "StringEquals": {
          "iam:PassedToService": "sagemaker.amazonaws.com"
        }
      }
    }
  ]
}
END
inline 'nb-bob-nb' 'nbidentity-guard'

cat >"$work/policy" <<'END'
{
  "Version": "2012-10-17",
  "Statement": [
    {
      "Sid": "DenyUnattributed",
      "Effect": "Deny",
      "NotAction": [
        "sts:AssumeRole",
        "sts:SetSourceIdentity",
        "sts:GetCallerIdentity",
        "logs:CreateLogGroup",
        "logs:CreateLogStream",
        "logs:DescribeLogStreams",
        "logs:PutLogEvents",
        "sagemaker:DescribeDomain",
        "sagemaker:DescribeSpace",
        "sagemaker:DescribeUserProfile",
        "sagemaker:DescribeNotebookInstance",
        "sagemaker:StopNotebookInstance",
        "sagemaker:ListTags"
      ],
      "Resource": "*",
      "Condition": {
        "Null": {
          "aws:SourceIdentity": "true"
        },
        "Bool": {
          "aws:ViaAWSService": "false"
        }
      }
    }
  ]
}
END
inline 'nb-bob-nb' 'nbidentity-deny-unattributed'
work_policies 'nb-bob-nb'

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
existing_role 'arn:aws-cn:iam::111122223333:role/JobRole'

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
      "Resource": "arn:aws-cn:iam::111122223333:role/nb/nb-*"
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
    },
    {
      "Sid": "DenyPassingRoles",
      "Effect": "Deny",
      "Action": "iam:PassRole",
      "NotResource": "arn:aws-cn:iam::111122223333:role/JobRole",
      "Condition": {
        "StringEquals": {
          "iam:PassedToService": "sagemaker.amazonaws.com"
        }
      }
    }
  ]
}
END
inline 'JobRole' 'nbidentity-guard'
work_policies 'JobRole'
