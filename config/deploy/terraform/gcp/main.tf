# The service account of Forescale on Google Cloud, by Workload Identity Federation for GKE, with the roles of
# config/deploy/gcp-role.yaml. `uses` limits the permissions to your kinds of sources and pools.
terraform {
  required_version = ">= 1.5"
  required_providers {
    google = {
      source  = "hashicorp/google"
      version = ">= 5.0"
    }
  }
}

locals {
  cluster_project = coalesce(var.cluster_project, var.project)
  notices         = length(var.notices_subscriptions) > 0

  groups = ["compute.instanceGroupManagers.get", "compute.instanceGroupManagers.update"]
  nodes = [
    "compute.instanceGroupManagers.get",
    "container.clusters.get",
    "container.clusters.update",
    "container.operations.get",
  ]
  permissions = {
    pubsub           = ["monitoring.timeSeries.list", "pubsub.subscriptions.get"]
    cloud_monitoring = ["monitoring.timeSeries.list"]
    gce_mig          = local.groups
    gce_mig_standby  = local.groups
    gke_node_pool    = local.nodes
    gke_tpu_slices   = local.nodes
    vertex_endpoint = [
      "aiplatform.endpoints.deploy",
      "aiplatform.endpoints.get",
      "aiplatform.operations.list",
    ]
    cloud_run_service     = ["monitoring.timeSeries.list", "run.services.get", "run.services.update"]
    cloud_run_worker_pool = ["monitoring.timeSeries.list", "run.workerpools.get", "run.workerpools.update"]
    reservation           = ["compute.reservations.get"]
  }
}

resource "google_service_account" "forescale" {
  project      = var.project
  account_id   = var.account_id
  display_name = "Forescale"
}

resource "google_service_account_iam_member" "workload_identity" {
  service_account_id = google_service_account.forescale.name
  role               = "roles/iam.workloadIdentityUser"
  member             = "serviceAccount:${local.cluster_project}.svc.id.goog[${var.namespace}/${var.service_account}]"
}

resource "google_project_iam_custom_role" "forescale" {
  project     = var.project
  role_id     = var.account_id
  title       = "Forescale"
  description = "Read queues and metrics, and size instance groups and node pools."
  permissions = distinct(flatten([for use in var.uses : local.permissions[use]]))
}

resource "google_project_iam_member" "forescale" {
  project = var.project
  role    = google_project_iam_custom_role.forescale.id
  member  = google_service_account.forescale.member
}

resource "google_project_iam_custom_role" "notices" {
  count       = local.notices ? 1 : 0
  project     = var.project
  role_id     = "${var.account_id}Notices"
  title       = "Forescale notices"
  description = "Hear of machines that Compute Engine will take, from one subscription."
  permissions = ["pubsub.subscriptions.consume"]
}

resource "google_pubsub_subscription_iam_member" "notices" {
  for_each     = var.notices_subscriptions
  project      = var.project
  subscription = each.value
  role         = google_project_iam_custom_role.notices[0].id
  member       = google_service_account.forescale.member
}

resource "google_service_account_iam_member" "hosts" {
  for_each           = var.host_accounts
  service_account_id = each.value
  role               = "roles/iam.serviceAccountUser"
  member             = google_service_account.forescale.member
}
