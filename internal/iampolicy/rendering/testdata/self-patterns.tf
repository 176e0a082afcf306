# IAM documents for nbidentityd, mode self: role AmazonSageMaker-ExecutionRole
# assumes itself under the name of its notebook or user profile.
#
# nbidentityd policy self -explain, with the same flags, prints what they
# allow and deny.
#
# Deploy in account 111122223333. Roles that exist are imported: the plan
# shows what changes on them. terraform destroy refuses to delete them; use
# terraform state rm.
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
# The trust policy of each role that exists (AmazonSageMaker-ExecutionRole,
# JobRole) is replaced as a whole. Other statements that it has today (for
# Glue, Lambda, people, …) must be added again; the statement for
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
          StringLike = {
            "sts:SourceIdentity" = ["on", "team-a-*"]
          }
          StringEquals = {
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
          StringLike = {
            "sts:SourceIdentity" = ["on", "team-a-*"]
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

import {
  to = aws_iam_role.jobrole
  id = "JobRole"
}

resource "aws_iam_role" "jobrole" {
  name = "JobRole"
  path = "/jobs/"

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

resource "aws_iam_role_policy_attachment" "jobrole_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.jobrole.name
  policy_arn = each.value
}
