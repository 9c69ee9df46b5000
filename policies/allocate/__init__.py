"""From a size to pools and tiers: by cost, or in the order listed."""
