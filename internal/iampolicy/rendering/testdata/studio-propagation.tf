# IAM documents for nbidentityd, mode studio-propagation: domain
# d-exampledomain sets the profile's name as source identity; the daemon takes
# the same name as session name.
#
# nbidentityd policy studio-propagation -explain, with the same flags, prints
# what they allow and deny.
#
# Deploy in account 111122223333. Roles that exist are imported: the plan
# shows what changes on them. terraform destroy refuses to delete them; use
# terraform state rm.
#
# This file does not do:
#   aws sagemaker list-apps --region us-east-1 --domain-id-equals d-exampledomain --query 'Apps[?Status=='\''InService'\'' || Status=='\''Pending'\''].[UserProfileName || SpaceName, AppType, AppName, Status]' --output text
#   aws sagemaker update-domain --region us-east-1 --domain-id d-exampledomain --domain-settings-for-update ExecutionRoleIdentityConfig=USER_PROFILE_NAME
#   # off again: aws sagemaker update-domain --region us-east-1 --domain-id d-exampledomain --domain-settings-for-update ExecutionRoleIdentityConfig=DISABLED
#
# The switch can only be turned while no app of the domain is InService or
# Pending: stop all apps of all profiles and spaces first. The shell script
# (format cli) checks this, deploys the trust policies before it turns the
# switch, and turns it off again with the word disable.
#
# SageMaker sets no source identity in shared spaces: their sessions stay
# without a name, and the person at the keyboard cannot be known.
#
# AWS documents the switch for Studio Classic. In a new space, look at the
# first CloudTrail records before you rely on it.
#
# Profiles with capitals in their names cannot open their own Studio from
# inside a notebook (SageMaker drops capitals in ARNs); from outside nothing
# changes.
#
# The policies named nbidentity-guard deny the ways around the names: to
# sessions of administrators that work under these roles as well. PassRole to
# SageMaker is left for the roles of these documents only in the modes
# per-notebook and per-profile: name every role that jobs use.
#
# The trust policy of each role that exists (AmazonSageMaker-ExecutionRole,
# SharedSpaces, JobRole) is replaced as a whole. Other statements that it has
# today (for Glue, Lambda, people, …) must be added again; the statement for
# sagemaker.amazonaws.com must keep both actions.
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
            "sts:SourceIdentity"  = "$${aws:SourceIdentity}"
            "sts:RoleSessionName" = "$${aws:SourceIdentity}"
          }
          Null = {
            "aws:SourceIdentity" = "false"
          }
          StringLike = {
            "aws:userid" = "*:SageMaker"
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
            "sts:SourceIdentity" = "$${aws:SourceIdentity}"
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
          "arn:aws:sagemaker:us-east-1:111122223333:domain/*",
          "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/*",
          "arn:aws:sagemaker:us-east-1:111122223333:space/*",
          "arn:aws:sagemaker:us-east-1:111122223333:user-profile/*",
        ]
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
        Resource = [
          "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
          "arn:aws:iam::111122223333:role/SharedSpaces",
        ]
      },
      {
        Sid    = "DenyEditingDomain"
        Effect = "Deny"
        Action = [
          "sagemaker:CreateUserProfile",
          "sagemaker:DeleteUserProfile",
          "sagemaker:UpdateDomain",
          "sagemaker:UpdateUserProfile",
        ]
        Resource = "*"
      },
      {
        Sid      = "DenyRetaggingProfiles"
        Effect   = "Deny"
        Action   = ["sagemaker:AddTags", "sagemaker:DeleteTags"]
        Resource = "arn:aws:sagemaker:us-east-1:111122223333:user-profile/*"
      },
      {
        Sid         = "DenyOtherProfiles"
        Effect      = "Deny"
        Action      = "sagemaker:CreatePresignedDomainUrl"
        NotResource = "arn:aws:sagemaker:us-east-1:111122223333:user-profile/*/$${aws:SourceIdentity}"
      },
      {
        Sid      = "DenyProfilesToUnnamed"
        Effect   = "Deny"
        Action   = "sagemaker:CreatePresignedDomainUrl"
        Resource = "*"
        Condition = {
          Null = {
            "aws:SourceIdentity" = "true"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "amazonsagemaker_executionrole_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.amazonsagemaker_executionrole.name
  policy_arn = each.value
}

import {
  to = aws_iam_role.sharedspaces
  id = "SharedSpaces"
}

resource "aws_iam_role" "sharedspaces" {
  name = "SharedSpaces"
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
      {
        Sid    = "NbIdentityAssume"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:root"
        }
        Action = "sts:AssumeRole"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/SharedSpaces"
          }
          StringEquals = {
            "sts:SourceIdentity"  = "$${aws:SourceIdentity}"
            "sts:RoleSessionName" = "$${aws:SourceIdentity}"
          }
          Null = {
            "aws:SourceIdentity" = "false"
          }
          StringLike = {
            "aws:userid" = "*:SageMaker"
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
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/SharedSpaces"
          }
          StringEquals = {
            "sts:SourceIdentity" = "$${aws:SourceIdentity}"
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

resource "aws_iam_role_policy" "sharedspaces_nbidentity" {
  name = "nbidentity"
  role = aws_iam_role.sharedspaces.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "NbIdentity"
        Effect   = "Allow"
        Action   = ["sts:AssumeRole", "sts:SetSourceIdentity"]
        Resource = "arn:aws:iam::111122223333:role/SharedSpaces"
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
          "arn:aws:sagemaker:us-east-1:111122223333:domain/*",
          "arn:aws:sagemaker:us-east-1:111122223333:notebook-instance/*",
          "arn:aws:sagemaker:us-east-1:111122223333:space/*",
          "arn:aws:sagemaker:us-east-1:111122223333:user-profile/*",
        ]
      },
    ]
  })
}

resource "aws_iam_role_policy" "sharedspaces_nbidentity_guard" {
  name = "nbidentity-guard"
  role = aws_iam_role.sharedspaces.name

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
        Resource = [
          "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
          "arn:aws:iam::111122223333:role/SharedSpaces",
        ]
      },
      {
        Sid    = "DenyEditingDomain"
        Effect = "Deny"
        Action = [
          "sagemaker:CreateUserProfile",
          "sagemaker:DeleteUserProfile",
          "sagemaker:UpdateDomain",
          "sagemaker:UpdateUserProfile",
        ]
        Resource = "*"
      },
      {
        Sid      = "DenyRetaggingProfiles"
        Effect   = "Deny"
        Action   = ["sagemaker:AddTags", "sagemaker:DeleteTags"]
        Resource = "arn:aws:sagemaker:us-east-1:111122223333:user-profile/*"
      },
      {
        Sid         = "DenyOtherProfiles"
        Effect      = "Deny"
        Action      = "sagemaker:CreatePresignedDomainUrl"
        NotResource = "arn:aws:sagemaker:us-east-1:111122223333:user-profile/*/$${aws:SourceIdentity}"
      },
      {
        Sid      = "DenyProfilesToUnnamed"
        Effect   = "Deny"
        Action   = "sagemaker:CreatePresignedDomainUrl"
        Resource = "*"
        Condition = {
          Null = {
            "aws:SourceIdentity" = "true"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "sharedspaces_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.sharedspaces.name
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
        Resource = [
          "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
          "arn:aws:iam::111122223333:role/SharedSpaces",
        ]
      },
      {
        Sid    = "DenyEditingDomain"
        Effect = "Deny"
        Action = [
          "sagemaker:CreateUserProfile",
          "sagemaker:DeleteUserProfile",
          "sagemaker:UpdateDomain",
          "sagemaker:UpdateUserProfile",
        ]
        Resource = "*"
      },
      {
        Sid      = "DenyRetaggingProfiles"
        Effect   = "Deny"
        Action   = ["sagemaker:AddTags", "sagemaker:DeleteTags"]
        Resource = "arn:aws:sagemaker:us-east-1:111122223333:user-profile/*"
      },
      {
        Sid         = "DenyOtherProfiles"
        Effect      = "Deny"
        Action      = "sagemaker:CreatePresignedDomainUrl"
        NotResource = "arn:aws:sagemaker:us-east-1:111122223333:user-profile/*/$${aws:SourceIdentity}"
      },
      {
        Sid      = "DenyProfilesToUnnamed"
        Effect   = "Deny"
        Action   = "sagemaker:CreatePresignedDomainUrl"
        Resource = "*"
        Condition = {
          Null = {
            "aws:SourceIdentity" = "true"
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
