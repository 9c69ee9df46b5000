output "client_id" {
  description = "Client ID of the identity: identity.azureClientId of the chart, or the annotation in the overlay azure."
  value       = azurerm_user_assigned_identity.forescale.client_id
}
