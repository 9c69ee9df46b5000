# The role of Forescale on AWS, by EKS Pod Identity or IRSA, with the permissions of config/deploy/aws-iam.json and
# aws-routes-iam.json. A list of resources that is empty grants nothing.
terraform {
  required_version = ">= 1.5"
  required_providers {
    aws = {
      source  = "hashicorp/aws"
      version = ">= 5.40"
    }
  }
}

data "aws_caller_identity" "current" {}
data "aws_partition" "current" {}
data "aws_region" "current" {}

locals {
  account  = data.aws_caller_identity.current.account_id
  arn      = "arn:${data.aws_partition.current.partition}"
  issuer   = var.oidc_provider_arn == null ? "" : split(":oidc-provider/", var.oidc_provider_arn)[1]
  role_arn = "${local.arn}:iam::${local.account}:role/${var.role_name}"

  read_groups    = length(var.group_arns) + length(var.node_group_arns) > 0
  size_endpoints = length(var.endpoint_arns) + length(var.component_arns) > 0
  buy_instances  = length(var.node_role_arns) > 0
  read_metrics   = var.read_metrics || length(var.listener_rule_arns) > 0
  read_machines  = length(var.group_arns) + length(var.fleet_arns) > 0 || local.buy_instances || var.read_reservations
}

data "aws_iam_policy_document" "trust" {
  dynamic "statement" {
    for_each = var.oidc_provider_arn == null ? ["pod identity"] : []
    content {
      actions = ["sts:AssumeRole", "sts:TagSession"]
      principals {
        type        = "Service"
        identifiers = ["pods.eks.amazonaws.com"]
      }
      condition {
        test     = "StringEquals"
        variable = "aws:SourceAccount"
        values   = [local.account]
      }
    }
  }

  dynamic "statement" {
    for_each = var.oidc_provider_arn == null ? [] : ["irsa"]
    content {
      actions = ["sts:AssumeRoleWithWebIdentity"]
      principals {
        type        = "Federated"
        identifiers = [var.oidc_provider_arn]
      }
      condition {
        test     = "StringEquals"
        variable = "${local.issuer}:sub"
        values   = ["system:serviceaccount:${var.namespace}:${var.service_account}"]
      }
      condition {
        test     = "StringEquals"
        variable = "${local.issuer}:aud"
        values   = ["sts.amazonaws.com"]
      }
    }
  }
}

data "aws_iam_policy_document" "permissions" {
  dynamic "statement" {
    for_each = length(var.queue_arns) > 0 ? ["CountMessages"] : []
    content {
      sid       = "CountMessages"
      actions   = ["sqs:GetQueueAttributes"]
      resources = var.queue_arns
    }
  }

  dynamic "statement" {
    for_each = local.read_metrics ? ["ReadMetrics"] : []
    content {
      sid       = "ReadMetrics"
      actions   = ["cloudwatch:GetMetricData"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.events_queue_arns) > 0 ? ["HearOfInterruptions"] : []
    content {
      sid       = "HearOfInterruptions"
      actions   = ["sqs:DeleteMessage", "sqs:ReceiveMessage"]
      resources = var.events_queue_arns
    }
  }

  dynamic "statement" {
    for_each = local.read_groups ? ["SeeGroups"] : []
    content {
      sid = "SeeGroups"
      actions = [
        "autoscaling:DescribeAutoScalingGroups",
        "autoscaling:DescribeScalingActivities",
        "autoscaling:DescribeWarmPool",
      ]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.group_arns) > 0 ? ["SizeGroups"] : []
    content {
      sid       = "SizeGroups"
      actions   = ["autoscaling:LaunchInstances", "autoscaling:PutWarmPool", "autoscaling:SetDesiredCapacity"]
      resources = var.group_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.node_group_arns) > 0 ? ["SizeNodeGroups"] : []
    content {
      sid       = "SizeNodeGroups"
      actions   = ["eks:DescribeNodegroup", "eks:DescribeUpdate", "eks:UpdateNodegroupConfig"]
      resources = var.node_group_arns
    }
  }

  dynamic "statement" {
    for_each = local.read_machines ? ["SeeMachines"] : []
    content {
      sid = "SeeMachines"
      actions = [
        "ec2:DescribeCapacityReservations",
        "ec2:DescribeFleetHistory",
        "ec2:DescribeFleetInstances",
        "ec2:DescribeFleets",
        "ec2:DescribeInstances",
      ]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.fleet_arns) > 0 ? ["SizeFleets"] : []
    content {
      sid       = "SizeFleets"
      actions   = ["ec2:ModifyFleet"]
      resources = var.fleet_arns
    }
  }

  dynamic "statement" {
    for_each = local.buy_instances ? ["BuyInstances"] : []
    content {
      sid       = "BuyInstances"
      actions   = ["ec2:CreateFleet", "ec2:RunInstances"]
      resources = ["*"]
      condition {
        test     = "StringEquals"
        variable = "aws:RequestedRegion"
        values   = [data.aws_region.current.id]
      }
    }
  }

  dynamic "statement" {
    for_each = local.buy_instances ? ["TagWhatIsBought"] : []
    content {
      sid       = "TagWhatIsBought"
      actions   = ["ec2:CreateTags"]
      resources = ["${local.arn}:ec2:${data.aws_region.current.id}:${local.account}:instance/*"]
      condition {
        test     = "StringEquals"
        variable = "ec2:CreateAction"
        values   = ["CreateFleet", "RunInstances"]
      }
    }
  }

  dynamic "statement" {
    for_each = local.buy_instances ? ["HandTheNodesTheirRole"] : []
    content {
      sid       = "HandTheNodesTheirRole"
      actions   = ["iam:PassRole"]
      resources = var.node_role_arns
      condition {
        test     = "StringEquals"
        variable = "iam:PassedToService"
        values   = ["ec2.amazonaws.com"]
      }
    }
  }

  dynamic "statement" {
    for_each = local.buy_instances ? ["EndWhatWasBought"] : []
    content {
      sid       = "EndWhatWasBought"
      actions   = ["ec2:TerminateInstances"]
      resources = ["${local.arn}:ec2:${data.aws_region.current.id}:${local.account}:instance/*"]
      condition {
        test     = "StringLike"
        variable = "aws:ResourceTag/forescale:pool"
        values   = ["*/*"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.endpoint_arns) > 0 ? ["SizeEndpoints"] : []
    content {
      sid       = "SizeEndpoints"
      actions   = ["sagemaker:DescribeEndpoint", "sagemaker:UpdateEndpointWeightsAndCapacities"]
      resources = var.endpoint_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.component_arns) > 0 ? ["SizeComponents"] : []
    content {
      sid       = "SizeComponents"
      actions   = ["sagemaker:DescribeInferenceComponent", "sagemaker:UpdateInferenceComponentRuntimeConfig"]
      resources = var.component_arns
    }
  }

  dynamic "statement" {
    for_each = local.size_endpoints ? ["SeeNativeScaling"] : []
    content {
      sid       = "SeeNativeScaling"
      actions   = ["application-autoscaling:DescribeScalableTargets", "application-autoscaling:DescribeScalingActivities"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = local.size_endpoints ? ["TakeOverNativeScaling"] : []
    content {
      sid       = "TakeOverNativeScaling"
      actions   = ["application-autoscaling:RegisterScalableTarget"]
      resources = ["${local.arn}:application-autoscaling:${data.aws_region.current.id}:${local.account}:scalable-target/*"]
      condition {
        test     = "StringEquals"
        variable = "application-autoscaling:service-namespace"
        values   = ["sagemaker"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.listener_rule_arns) > 0 ? ["SeeListenerRules"] : []
    content {
      sid       = "SeeListenerRules"
      actions   = ["elasticloadbalancing:DescribeRules"]
      resources = ["*"]
    }
  }

  dynamic "statement" {
    for_each = length(var.listener_rule_arns) > 0 ? ["SetWeightsOfListenerRules"] : []
    content {
      sid       = "SetWeightsOfListenerRules"
      actions   = ["elasticloadbalancing:ModifyRule"]
      resources = var.listener_rule_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.hosted_zone_arns) > 0 ? ["SeeRecords"] : []
    content {
      sid       = "SeeRecords"
      actions   = ["route53:ListResourceRecordSets"]
      resources = var.hosted_zone_arns
    }
  }

  dynamic "statement" {
    for_each = length(var.hosted_zone_arns) > 0 ? ["SetWeightsOfRecords"] : []
    content {
      sid       = "SetWeightsOfRecords"
      actions   = ["route53:ChangeResourceRecordSets"]
      resources = var.hosted_zone_arns
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "route53:ChangeResourceRecordSetsNormalizedRecordNames"
        values   = var.record_names
      }
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "route53:ChangeResourceRecordSetsRecordTypes"
        values   = var.record_types
      }
      condition {
        test     = "ForAllValues:StringEquals"
        variable = "route53:ChangeResourceRecordSetsActions"
        values   = ["UPSERT"]
      }
    }
  }

  dynamic "statement" {
    for_each = length(var.hosted_zone_arns) > 0 ? ["SeeHealthChecks"] : []
    content {
      sid       = "SeeHealthChecks"
      actions   = ["route53:GetHealthCheck", "route53:GetHealthCheckStatus"]
      resources = ["${local.arn}:route53:::healthcheck/*"]
    }
  }

  # For `forescale check --live`, which reports the absent permissions.
  statement {
    sid       = "AskWhatIsGranted"
    actions   = ["iam:SimulatePrincipalPolicy"]
    resources = [local.role_arn]
  }
}

resource "aws_iam_role" "forescale" {
  name               = var.role_name
  assume_role_policy = data.aws_iam_policy_document.trust.json
}

resource "aws_iam_role_policy" "forescale" {
  name   = "forescale"
  role   = aws_iam_role.forescale.id
  policy = data.aws_iam_policy_document.permissions.json
}

resource "aws_eks_pod_identity_association" "forescale" {
  count           = var.oidc_provider_arn == null ? 1 : 0
  cluster_name    = var.cluster_name
  namespace       = var.namespace
  service_account = var.service_account
  role_arn        = aws_iam_role.forescale.arn
}
