variable "project" {
  description = "Project of the pools, queues and metrics."
  type        = string
}

variable "cluster_project" {
  description = "Project of the GKE cluster in which Forescale runs. Null: the same project."
  type        = string
  default     = null
}

variable "namespace" {
  description = "Namespace of Forescale's service account in Kubernetes."
  type        = string
}

variable "service_account" {
  description = "Name of Forescale's service account in Kubernetes."
  type        = string
  default     = "forescale"
}

variable "account_id" {
  description = "Name of the service account on Google Cloud, and of the roles."
  type        = string
  default     = "forescale"

  validation {
    condition     = can(regex("^[a-z][a-z0-9]{5,29}$", var.account_id))
    error_message = "account_id: needs 6 to 30 lower-case letters and digits, the first one a letter."
  }
}

variable "uses" {
  description = "Kinds of sources and pools in your workload files, and `reservation` where a pool has one. Each grants its own permissions."
  type        = set(string)

  validation {
    condition = length(var.uses) > 0 && length(setsubtract(var.uses, [
      "pubsub", "cloud_monitoring", "gce_mig", "gce_mig_standby", "gke_node_pool", "gke_tpu_slices", "vertex_endpoint",
      "cloud_run_service", "cloud_run_worker_pool", "reservation",
    ])) == 0
    error_message = "uses: needs at least one of pubsub, cloud_monitoring, gce_mig, gce_mig_standby, gke_node_pool, gke_tpu_slices, vertex_endpoint, cloud_run_service, cloud_run_worker_pool, reservation, and no other."
  }
}

variable "notices_subscriptions" {
  description = "Pub/Sub subscriptions with interruption notices: notices.subscription of a pool."
  type        = set(string)
  default     = []
}

variable "host_accounts" {
  description = "Service accounts of the hosts that gke_tpu_slices creates, as projects/PROJECT/serviceAccounts/EMAIL."
  type        = set(string)
  default     = []
}
