# The managed identity of Forescale on Azure, by Microsoft Entra Workload ID, with the role of config/deploy/azure-role.json.
# `uses` limits the actions to your kinds of sources and pools.
terraform {
  required_version = ">= 1.5"
  required_providers {
    azurerm = {
      source  = "hashicorp/azurerm"
      version = ">= 3.80"
    }
  }
}

locals {
  always = ["Microsoft.Authorization/permissions/read"] # for `forescale check --live`
  actions = {
    service_bus = [
      "Microsoft.Insights/metrics/read",
      "Microsoft.ServiceBus/namespaces/queues/read",
      "Microsoft.ServiceBus/namespaces/topics/subscriptions/read",
    ]
    azure_monitor = ["Microsoft.Insights/metricDefinitions/read", "Microsoft.Insights/metrics/read"]
    aks_agent_pool = [
      "Microsoft.Compute/virtualMachineScaleSets/read",
      "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read",
      "Microsoft.ContainerService/locations/operations/read",
      "Microsoft.ContainerService/managedClusters/agentPools/deleteMachines/action",
      "Microsoft.ContainerService/managedClusters/agentPools/read",
      "Microsoft.ContainerService/managedClusters/agentPools/write",
      "Microsoft.ContainerService/managedClusters/read",
    ]
    vmss = [
      "Microsoft.Compute/locations/operations/read",
      "Microsoft.Compute/virtualMachineScaleSets/delete/action",
      "Microsoft.Compute/virtualMachineScaleSets/read",
      "Microsoft.Compute/virtualMachineScaleSets/virtualMachines/read",
      "Microsoft.Compute/virtualMachineScaleSets/write",
      "Microsoft.Compute/virtualMachines/read",
      "Microsoft.Insights/autoscaleSettings/read",
    ]
    vmss_standby_pool = [
      "Microsoft.Compute/virtualMachineScaleSets/read",
      "Microsoft.StandbyPool/locations/operationStatuses/read",
      "Microsoft.StandbyPool/standbyVirtualMachinePools/read",
      "Microsoft.StandbyPool/standbyVirtualMachinePools/runtimeViews/read",
      "Microsoft.StandbyPool/standbyVirtualMachinePools/write",
    ]
    azure_ml_deployment = [
      "Microsoft.Insights/autoscaleSettings/read",
      "Microsoft.Insights/autoscaleSettings/write",
      "Microsoft.Insights/metrics/read",
      "Microsoft.MachineLearningServices/locations/mfeOperationsStatus/read",
      "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/read",
      "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/deployments/write",
      "Microsoft.MachineLearningServices/workspaces/onlineEndpoints/read",
    ]
    azure_openai_ptu = [
      "Microsoft.CognitiveServices/accounts/deployments/read",
      "Microsoft.CognitiveServices/accounts/deployments/skus/read",
      "Microsoft.CognitiveServices/accounts/deployments/write",
      "Microsoft.CognitiveServices/accounts/read",
      "Microsoft.CognitiveServices/locations/modelCapacities/read",
      "Microsoft.CognitiveServices/locations/operationResults/read",
    ]
    reservation = ["Microsoft.Compute/capacityReservationGroups/capacityReservations/read"]
  }
}

resource "azurerm_user_assigned_identity" "forescale" {
  name                = var.name
  resource_group_name = var.resource_group_name
  location            = var.location
}

resource "azurerm_federated_identity_credential" "forescale" {
  name                = "${var.namespace}-${var.service_account}"
  resource_group_name = var.resource_group_name
  parent_id           = azurerm_user_assigned_identity.forescale.id
  issuer              = var.oidc_issuer_url
  subject             = "system:serviceaccount:${var.namespace}:${var.service_account}"
  audience            = ["api://AzureADTokenExchange"]
}

resource "azurerm_role_definition" "forescale" {
  name              = var.name
  description       = "Read queues and metrics, and size scale sets, agent pools and standby pools."
  scope             = var.scopes[0]
  assignable_scopes = var.scopes

  permissions {
    actions = distinct(concat(local.always, flatten([for use in var.uses : local.actions[use]])))
  }
}

resource "azurerm_role_assignment" "forescale" {
  for_each           = toset(var.scopes)
  scope              = each.value
  role_definition_id = azurerm_role_definition.forescale.role_definition_resource_id
  principal_id       = azurerm_user_assigned_identity.forescale.principal_id
  principal_type     = "ServicePrincipal"
}
