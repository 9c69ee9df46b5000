output "service_account_email" {
  description = "E-mail address of the service account: identity.gcpServiceAccount of the chart, or the annotation in the overlay gcp."
  value       = google_service_account.forescale.email
}
