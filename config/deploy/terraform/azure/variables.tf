variable "resource_group_name" {
  description = "Resource group of the managed identity."
  type        = string
}

variable "location" {
  description = "Region of the managed identity."
  type        = string
}

variable "name" {
  description = "Name of the managed identity and of the role."
  type        = string
  default     = "forescale"
}

variable "oidc_issuer_url" {
  description = "OIDC issuer of the AKS cluster in which Forescale runs."
  type        = string
}

variable "namespace" {
  description = "Namespace of Forescale's service account."
  type        = string
}

variable "service_account" {
  description = "Name of Forescale's service account."
  type        = string
  default     = "forescale"
}

variable "scopes" {
  description = "IDs of the resource groups of your resources and, for AKS, of the cluster's node resource group (MC_...)."
  type        = list(string)

  validation {
    condition     = length(var.scopes) > 0
    error_message = "scopes: needs at least one resource group."
  }
}

variable "uses" {
  description = "Kinds of sources and pools in your workload files, and `reservation` where a pool has one. Each grants its own actions."
  type        = set(string)

  validation {
    condition = length(setsubtract(var.uses, [
      "service_bus", "azure_monitor", "aks_agent_pool", "vmss", "vmss_standby_pool", "azure_ml_deployment",
      "azure_openai_ptu", "reservation",
    ])) == 0
    error_message = "uses: allowed are service_bus, azure_monitor, aks_agent_pool, vmss, vmss_standby_pool, azure_ml_deployment, azure_openai_ptu and reservation."
  }
}
