"""From a size to pools and tiers: in the order listed where pools differ in nothing, by money where they do."""

from policies.allocate.allocator import Allocation, cost_usd_per_hour, place, replica_equivalents, serving_supply
from policies.allocate.in_order import allocate

__all__ = ["Allocation", "allocate", "cost_usd_per_hour", "place", "replica_equivalents", "serving_supply"]
