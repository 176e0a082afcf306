# IAM documents for nbidentityd, mode per-profile: 2 profiles share role
# AmazonSageMaker-ExecutionRole, from which each takes its own role
# SageMakerStudioExecutionRole_{name}.
#
# nbidentityd policy per-profile -explain, with the same flags, prints what
# they allow and deny.
#
# Deploy in account 111122223333. Roles that exist are imported: the plan
# shows what changes on them. terraform destroy refuses to delete them; use
# terraform state rm.
#
# This file does not do:
#   aws sagemaker add-tags --resource-arn "$(aws sagemaker describe-user-profile --domain-id DOMAIN --user-profile-name alice --query UserProfileArn --output text)" --tags '[{"Key":"studiouserid","Value":"alice@example.com"}]'
#   aws sagemaker add-tags --resource-arn "$(aws sagemaker describe-user-profile --domain-id DOMAIN --user-profile-name bob --query UserProfileArn --output text)" --tags '[{"Key":"studiouserid","Value":"bob"}]'
#
# Settings of the daemon: under [role], arn =
# "arn:aws:iam::{account}:role/SageMakerStudioExecutionRole_{name}". Session
# tags there are optional: each role carries its tags; if they are sent, they
# must have the role's values.
#
# The published layout for Lake Formation attaches Deny sts:AssumeRole on
# every role to the profiles' roles. On the role that the daemon begins with,
# AmazonSageMaker-ExecutionRole, it denies the daemon as well, and nothing is
# named. These documents cut the smallest hole: AmazonSageMaker-ExecutionRole
# may assume roles called SageMakerStudioExecutionRole_* and no other. Through
# that hole any base session can take any profile's role and name, unless the
# domain sets source identities (option propagated).
#
# The published Deny does not close what it seems to: it says nothing of
# iam:PassRole, which the same policy allows on every role, so a profile can
# give another profile's role to a job and work there as the other; and its
# sagemaker:AddTags on every resource lets people move the studiouserid tag.
# Both are denied here.
#
# In Lake Formation, grant tables and columns to the roles
# SageMakerStudioExecutionRole_{name}. Tag each user profile with
# studiouserid, and attach
# nbidentity-studio-user-AmazonSageMaker-ExecutionRole to the people, whose
# own tag studiouserid comes from the identity provider.
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
        Sid      = "ProfileRoles"
        Effect   = "Allow"
        Action   = ["sts:AssumeRole", "sts:SetSourceIdentity", "sts:TagSession"]
        Resource = "arn:aws:iam::111122223333:role/SageMakerStudioExecutionRole_*"
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
        Sid         = "DenyAssumingOtherRoles"
        Effect      = "Deny"
        Action      = "sts:AssumeRole"
        NotResource = "arn:aws:iam::111122223333:role/SageMakerStudioExecutionRole_*"
      },
      {
        Sid      = "DenyPassingProfileRoles"
        Effect   = "Deny"
        Action   = "iam:PassRole"
        Resource = "arn:aws:iam::111122223333:role/SageMakerStudioExecutionRole_*"
      },
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
          "arn:aws:iam::111122223333:role/SageMakerStudioExecutionRole_*",
          "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
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
        Resource = "arn:aws:sagemaker:*:111122223333:user-profile/*"
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "amazonsagemaker_executionrole_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.amazonsagemaker_executionrole.name
  policy_arn = each.value
}

resource "aws_iam_role" "sagemakerstudioexecutionrole_alice" {
  name        = "SageMakerStudioExecutionRole_alice"
  path        = "/"
  description = "Role of user profile alice"

  tags = {
    userprofilename = "alice"
    studiouserid    = "alice@example.com"
  }

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
            "sts:SourceIdentity"  = "alice"
            "sts:RoleSessionName" = "alice"
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
            "sts:SourceIdentity" = "alice"
          }
        }
      },
      {
        Sid    = "NbIdentityTag"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:root"
        }
        Action = "sts:TagSession"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
          }
          StringEqualsIfExists = {
            "aws:RequestTag/userprofilename" = "alice"
            "aws:RequestTag/studiouserid"    = "alice@example.com"
          }
          "ForAllValues:StringEquals" = {
            "aws:TagKeys" = ["userprofilename", "studiouserid"]
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "sagemakerstudioexecutionrole_alice_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.sagemakerstudioexecutionrole_alice.name
  policy_arn = each.value
}

resource "aws_iam_role" "sagemakerstudioexecutionrole_bob" {
  name        = "SageMakerStudioExecutionRole_bob"
  path        = "/"
  description = "Role of user profile bob"

  tags = {
    userprofilename = "bob"
    studiouserid    = "bob"
  }

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
            "sts:SourceIdentity"  = "bob"
            "sts:RoleSessionName" = "bob"
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
            "sts:SourceIdentity" = "bob"
          }
        }
      },
      {
        Sid    = "NbIdentityTag"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws:iam::111122223333:root"
        }
        Action = "sts:TagSession"
        Condition = {
          ArnEquals = {
            "aws:PrincipalArn" = "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole"
          }
          StringEqualsIfExists = {
            "aws:RequestTag/userprofilename" = "bob"
            "aws:RequestTag/studiouserid"    = "bob"
          }
          "ForAllValues:StringEquals" = {
            "aws:TagKeys" = ["userprofilename", "studiouserid"]
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "sagemakerstudioexecutionrole_bob_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.sagemakerstudioexecutionrole_bob.name
  policy_arn = each.value
}

resource "aws_iam_policy" "nbidentity_profile_amazonsagemaker_executionrole" {
  name        = "nbidentity-profile-AmazonSageMaker-ExecutionRole"
  description = "What every role of a user profile may and may not"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "LakeFormation"
        Effect   = "Allow"
        Action   = "lakeformation:GetDataAccess"
        Resource = "*"
      },
      {
        Sid    = "Catalog"
        Effect = "Allow"
        Action = [
          "glue:GetDatabase",
          "glue:GetDatabases",
          "glue:GetPartitions",
          "glue:GetTable",
          "glue:GetTables",
          "glue:SearchTables",
        ]
        Resource = [
          "arn:aws:glue:*:111122223333:catalog",
          "arn:aws:glue:*:111122223333:database/*",
          "arn:aws:glue:*:111122223333:table/*",
        ]
      },
      {
        Sid      = "DenyAssumingRoles"
        Effect   = "Deny"
        Action   = "sts:AssumeRole"
        Resource = "*"
      },
      {
        Sid         = "DenyPassingRoles"
        Effect      = "Deny"
        Action      = "iam:PassRole"
        NotResource = "arn:aws:iam::111122223333:role/SageMakerStudioExecutionRole_$${aws:PrincipalTag/userprofilename}"
        Condition = {
          StringEquals = {
            "iam:PassedToService" = "sagemaker.amazonaws.com"
          }
        }
      },
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
          "arn:aws:iam::111122223333:role/SageMakerStudioExecutionRole_*",
          "arn:aws:iam::111122223333:role/service-role/AmazonSageMaker-ExecutionRole",
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
        Resource = "arn:aws:sagemaker:*:111122223333:user-profile/*"
      },
      {
        Sid         = "DenyOtherProfiles"
        Effect      = "Deny"
        Action      = "sagemaker:CreatePresignedDomainUrl"
        NotResource = "arn:aws:sagemaker:*:111122223333:user-profile/*/$${aws:PrincipalTag/userprofilename}"
      },
      {
        Sid      = "DenyProfilesToUnnamed"
        Effect   = "Deny"
        Action   = "sagemaker:CreatePresignedDomainUrl"
        Resource = "*"
        Condition = {
          Null = {
            "aws:PrincipalTag/userprofilename" = "true"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy_attachment" "sagemakerstudioexecutionrole_alice_nbidentity_profile_amazonsagemaker_executionrole" {
  role       = aws_iam_role.sagemakerstudioexecutionrole_alice.name
  policy_arn = aws_iam_policy.nbidentity_profile_amazonsagemaker_executionrole.arn
}

resource "aws_iam_role_policy_attachment" "sagemakerstudioexecutionrole_bob_nbidentity_profile_amazonsagemaker_executionrole" {
  role       = aws_iam_role.sagemakerstudioexecutionrole_bob.name
  policy_arn = aws_iam_policy.nbidentity_profile_amazonsagemaker_executionrole.arn
}

resource "aws_iam_policy" "nbidentity_studio_user_amazonsagemaker_executionrole" {
  name        = "nbidentity-studio-user-AmazonSageMaker-ExecutionRole"
  description = "For people: open the Studio profile whose studiouserid is theirs"

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "OwnProfile"
        Effect   = "Allow"
        Action   = ["sagemaker:CreatePresignedDomainUrl", "sagemaker:DescribeUserProfile"]
        Resource = "arn:aws:sagemaker:*:111122223333:user-profile/*"
        Condition = {
          StringEquals = {
            "sagemaker:ResourceTag/studiouserid" = "$${aws:PrincipalTag/studiouserid}"
          }
        }
      },
      {
        Sid      = "DenyOtherProfiles"
        Effect   = "Deny"
        Action   = ["sagemaker:CreatePresignedDomainUrl", "sagemaker:DescribeUserProfile"]
        Resource = "*"
        Condition = {
          StringNotEquals = {
            "sagemaker:ResourceTag/studiouserid" = "$${aws:PrincipalTag/studiouserid}"
          }
        }
      },
      {
        Sid      = "DenyPeopleWithoutTag"
        Effect   = "Deny"
        Action   = ["sagemaker:CreatePresignedDomainUrl", "sagemaker:DescribeUserProfile"]
        Resource = "*"
        Condition = {
          Null = {
            "aws:PrincipalTag/studiouserid" = "true"
          }
        }
      },
      {
        Sid      = "DenyRetaggingProfiles"
        Effect   = "Deny"
        Action   = ["sagemaker:AddTags", "sagemaker:DeleteTags"]
        Resource = "arn:aws:sagemaker:*:111122223333:user-profile/*"
      },
    ]
  })
}
