"""Other autoscalers as partners: KEDA and HPAs read decided sizes and apply them."""
