"""The clairvoyant oracle: what the scenario's promise costs somebody who knows the future, and what it must cost."""
