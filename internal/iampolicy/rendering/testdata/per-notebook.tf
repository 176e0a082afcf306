# IAM documents for nbidentityd, mode per-notebook: 2 execution roles, one for
# each notebook instance, each assumes itself under its one name.
#
# nbidentityd policy per-notebook -explain, with the same flags, prints what
# they allow and deny.
#
# Deploy in account 111122223333. Roles that exist are imported: the plan
# shows what changes on them. terraform destroy refuses to delete them; use
# terraform state rm.
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

resource "aws_iam_role" "nb_alice_nb" {
  name        = "nb-Alice-nb"
  path        = "/nb/"
  description = "Execution role of notebook instance Alice-nb"

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
          AWS = "arn:aws-cn:iam::111122223333:root"
        }
        Action = "sts:AssumeRole"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb"
          }
          StringEquals = {
            "sts:SourceIdentity"  = "notebook@Alice-nb"
            "sts:RoleSessionName" = "notebook@Alice-nb"
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
          AWS = "arn:aws-cn:iam::111122223333:root"
        }
        Action = "sts:SetSourceIdentity"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb"
          }
          StringEquals = {
            "sts:SourceIdentity" = "notebook@Alice-nb"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "nb_alice_nb_nbidentity" {
  name = "nbidentity"
  role = aws_iam_role.nb_alice_nb.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "NbIdentity"
        Effect   = "Allow"
        Action   = ["sts:AssumeRole", "sts:SetSourceIdentity"]
        Resource = "arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb"
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
          "arn:aws-cn:sagemaker:cn-north-1:111122223333:domain/*",
          "arn:aws-cn:sagemaker:cn-north-1:111122223333:notebook-instance/*",
          "arn:aws-cn:sagemaker:cn-north-1:111122223333:space/*",
          "arn:aws-cn:sagemaker:cn-north-1:111122223333:user-profile/*",
        ]
      },
    ]
  })
}

resource "aws_iam_role_policy" "nb_alice_nb_nbidentity_guard" {
  name = "nbidentity-guard"
  role = aws_iam_role.nb_alice_nb.name

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
        Resource = "arn:aws-cn:iam::111122223333:role/nb/nb-*"
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
      {
        Sid         = "DenyPassingRoles"
        Effect      = "Deny"
        Action      = "iam:PassRole"
        NotResource = ["arn:aws-cn:iam::111122223333:role/nb/nb-Alice-nb", "arn:aws-cn:iam::111122223333:role/JobRole"]
        Condition = {
          StringEquals = {
            "iam:PassedToService" = "sagemaker.amazonaws.com"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "nb_alice_nb_nbidentity_deny_unattributed" {
  name = "nbidentity-deny-unattributed"
  role = aws_iam_role.nb_alice_nb.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "DenyUnattributed"
        Effect = "Deny"
        NotAction = [
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
          "sagemaker:ListTags",
        ]
        Resource = "*"
        Condition = {
          Null = {
            "aws:SourceIdentity" = "true"
          }
          Bool = {
            "aws:ViaAWSService" = "false"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "nb_alice_nb_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.nb_alice_nb.name
  policy_arn = each.value
}

resource "aws_iam_role" "nb_bob_nb" {
  name        = "nb-bob-nb"
  path        = "/nb/"
  description = "Execution role of notebook instance bob-nb"

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
          AWS = "arn:aws-cn:iam::111122223333:root"
        }
        Action = "sts:AssumeRole"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb"
          }
          StringEquals = {
            "sts:SourceIdentity"  = "notebook@bob-nb"
            "sts:RoleSessionName" = "notebook@bob-nb"
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
          AWS = "arn:aws-cn:iam::111122223333:root"
        }
        Action = "sts:SetSourceIdentity"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb"
          }
          StringEquals = {
            "sts:SourceIdentity" = "notebook@bob-nb"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "nb_bob_nb_nbidentity" {
  name = "nbidentity"
  role = aws_iam_role.nb_bob_nb.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "NbIdentity"
        Effect   = "Allow"
        Action   = ["sts:AssumeRole", "sts:SetSourceIdentity"]
        Resource = "arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb"
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
          "arn:aws-cn:sagemaker:cn-north-1:111122223333:domain/*",
          "arn:aws-cn:sagemaker:cn-north-1:111122223333:notebook-instance/*",
          "arn:aws-cn:sagemaker:cn-north-1:111122223333:space/*",
          "arn:aws-cn:sagemaker:cn-north-1:111122223333:user-profile/*",
        ]
      },
    ]
  })
}

resource "aws_iam_role_policy" "nb_bob_nb_nbidentity_guard" {
  name = "nbidentity-guard"
  role = aws_iam_role.nb_bob_nb.name

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
        Resource = "arn:aws-cn:iam::111122223333:role/nb/nb-*"
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
      {
        Sid         = "DenyPassingRoles"
        Effect      = "Deny"
        Action      = "iam:PassRole"
        NotResource = ["arn:aws-cn:iam::111122223333:role/nb/nb-bob-nb", "arn:aws-cn:iam::111122223333:role/JobRole"]
        Condition = {
          StringEquals = {
            "iam:PassedToService" = "sagemaker.amazonaws.com"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "nb_bob_nb_nbidentity_deny_unattributed" {
  name = "nbidentity-deny-unattributed"
  role = aws_iam_role.nb_bob_nb.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "DenyUnattributed"
        Effect = "Deny"
        NotAction = [
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
          "sagemaker:ListTags",
        ]
        Resource = "*"
        Condition = {
          Null = {
            "aws:SourceIdentity" = "true"
          }
          Bool = {
            "aws:ViaAWSService" = "false"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "nb_bob_nb_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.nb_bob_nb.name
  policy_arn = each.value
}

import {
  to = aws_iam_role.jobrole
  id = "JobRole"
}

resource "aws_iam_role" "jobrole" {
  name = "JobRole"
  path = "/"

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
    ]
  })

  lifecycle {
    prevent_destroy = true
    ignore_changes  = [description, max_session_duration, permissions_boundary, tags, tags_all]
  }
}

resource "aws_iam_role_policy" "jobrole_nbidentity_guard" {
  name = "nbidentity-guard"
  role = aws_iam_role.jobrole.name

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
        Resource = "arn:aws-cn:iam::111122223333:role/nb/nb-*"
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
      {
        Sid         = "DenyPassingRoles"
        Effect      = "Deny"
        Action      = "iam:PassRole"
        NotResource = "arn:aws-cn:iam::111122223333:role/JobRole"
        Condition = {
          StringEquals = {
            "iam:PassedToService" = "sagemaker.amazonaws.com"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "jobrole_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.jobrole.name
  policy_arn = each.value
}
