# IAM documents for nbidentityd, mode launcher: 2 launcher roles, one for each
# notebook instance, take their tagged name in role NotebookWork.
#
# nbidentityd policy launcher -explain, with the same flags, prints what they
# allow and deny.
#
# Deploy in account 111122223333.
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

resource "aws_iam_role" "notebookwork_jobs" {
  name        = "NotebookWork-jobs"
  path        = "/"
  description = "Role that notebooks pass to SageMaker jobs"

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
}

resource "aws_iam_role_policy" "notebookwork_jobs_nbidentity_guard" {
  name = "nbidentity-guard"
  role = aws_iam_role.notebookwork_jobs.name

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
          "arn:aws-us-gov:iam::111122223333:role/nb-launch/*",
          "arn:aws-us-gov:iam::111122223333:role/NotebookWork",
        ]
      },
      {
        Sid      = "DenyPassingLaunchers"
        Effect   = "Deny"
        Action   = "iam:PassRole"
        Resource = "arn:aws-us-gov:iam::111122223333:role/nb-launch/*"
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

resource "aws_iam_role_policy_attachment" "notebookwork_jobs_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.notebookwork_jobs.name
  policy_arn = each.value
}

resource "aws_iam_role" "notebookwork" {
  name        = "NotebookWork"
  path        = "/"
  description = "Role under which all notebooks work, each by its own name"

  assume_role_policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid    = "NbIdentityAssume"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws-us-gov:iam::111122223333:root"
        }
        Action = "sts:AssumeRole"
        Condition = {
          ArnLike = {
            "aws:PrincipalArn" = "arn:aws-us-gov:iam::111122223333:role/nb-launch/*"
          }
          StringEquals = {
            "sts:SourceIdentity"  = "$${aws:PrincipalTag/nbidentity}"
            "sts:RoleSessionName" = "$${aws:PrincipalTag/nbidentity}"
          }
          Null = {
            "aws:PrincipalTag/nbidentity" = "false"
            "aws:SourceIdentity"          = "true"
          }
        }
      },
      {
        Sid    = "NbIdentitySet"
        Effect = "Allow"
        Principal = {
          AWS = "arn:aws-us-gov:iam::111122223333:root"
        }
        Action = "sts:SetSourceIdentity"
        Condition = {
          ArnLike = {
            "aws:PrincipalArn" = "arn:aws-us-gov:iam::111122223333:role/nb-launch/*"
          }
          StringEquals = {
            "sts:SourceIdentity" = "$${aws:PrincipalTag/nbidentity}"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "notebookwork_nbidentity" {
  name = "nbidentity"
  role = aws_iam_role.notebookwork.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "PassJobRoles"
        Effect   = "Allow"
        Action   = "iam:PassRole"
        Resource = "arn:aws-us-gov:iam::111122223333:role/NotebookWork-jobs"
        Condition = {
          StringEquals = {
            "iam:PassedToService" = "sagemaker.amazonaws.com"
          }
        }
      },
    ]
  })
}

resource "aws_iam_role_policy" "notebookwork_nbidentity_guard" {
  name = "nbidentity-guard"
  role = aws_iam_role.notebookwork.name

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
          "arn:aws-us-gov:iam::111122223333:role/nb-launch/*",
          "arn:aws-us-gov:iam::111122223333:role/NotebookWork",
        ]
      },
      {
        Sid      = "DenyPassingLaunchers"
        Effect   = "Deny"
        Action   = "iam:PassRole"
        Resource = "arn:aws-us-gov:iam::111122223333:role/nb-launch/*"
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

resource "aws_iam_role_policy_attachment" "notebookwork_work" {
  for_each   = toset(var.work_policy_arns)
  role       = aws_iam_role.notebookwork.name
  policy_arn = each.value
}

resource "aws_iam_role" "launch_bob_nb" {
  name        = "launch-Bob-nb"
  path        = "/nb-launch/"
  description = "Launcher of notebook instance Bob-nb"

  tags = {
    nbidentity = "Bob-nb"
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
        Action = "sts:AssumeRole"
      },
    ]
  })
}

resource "aws_iam_role_policy" "launch_bob_nb_nbidentity" {
  name = "nbidentity"
  role = aws_iam_role.launch_bob_nb.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "OnlyTheWorkRole"
        Effect   = "Allow"
        Action   = ["sts:AssumeRole", "sts:SetSourceIdentity"]
        Resource = "arn:aws-us-gov:iam::111122223333:role/NotebookWork"
      },
      {
        Sid      = "LifecycleLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        Resource = "arn:aws-us-gov:logs:us-gov-west-1:111122223333:log-group:/aws/sagemaker/*"
      },
      {
        Sid    = "OwnNotebook"
        Effect = "Allow"
        Action = ["sagemaker:DescribeNotebookInstance", "sagemaker:ListTags", "sagemaker:StopNotebookInstance"]
        Resource = [
          "arn:aws-us-gov:sagemaker:us-gov-west-1:111122223333:notebook-instance/Bob-nb",
          "arn:aws-us-gov:sagemaker:us-gov-west-1:111122223333:notebook-instance/bob-nb",
        ]
      },
      {
        Sid      = "NbIdentityPackage"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "arn:aws-us-gov:s3:::example-bucket/*"
      },
    ]
  })
}

resource "aws_iam_role" "launch_alice_nb" {
  name        = "launch-alice-nb"
  path        = "/nb-launch/"
  description = "Launcher of notebook instance alice-nb"

  tags = {
    nbidentity = "alice-nb"
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
        Action = "sts:AssumeRole"
      },
    ]
  })
}

resource "aws_iam_role_policy" "launch_alice_nb_nbidentity" {
  name = "nbidentity"
  role = aws_iam_role.launch_alice_nb.name

  policy = jsonencode({
    Version = "2012-10-17"
    Statement = [
      {
        Sid      = "OnlyTheWorkRole"
        Effect   = "Allow"
        Action   = ["sts:AssumeRole", "sts:SetSourceIdentity"]
        Resource = "arn:aws-us-gov:iam::111122223333:role/NotebookWork"
      },
      {
        Sid      = "LifecycleLog"
        Effect   = "Allow"
        Action   = ["logs:CreateLogGroup", "logs:CreateLogStream", "logs:DescribeLogStreams", "logs:PutLogEvents"]
        Resource = "arn:aws-us-gov:logs:us-gov-west-1:111122223333:log-group:/aws/sagemaker/*"
      },
      {
        Sid      = "OwnNotebook"
        Effect   = "Allow"
        Action   = ["sagemaker:DescribeNotebookInstance", "sagemaker:ListTags", "sagemaker:StopNotebookInstance"]
        Resource = "arn:aws-us-gov:sagemaker:us-gov-west-1:111122223333:notebook-instance/alice-nb"
      },
      {
        Sid      = "NbIdentityPackage"
        Effect   = "Allow"
        Action   = "s3:GetObject"
        Resource = "arn:aws-us-gov:s3:::example-bucket/*"
      },
    ]
  })
}
