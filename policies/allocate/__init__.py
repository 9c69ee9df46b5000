"""From a size to pools and tiers: in the order listed where pools differ in nothing, by money where they do."""
