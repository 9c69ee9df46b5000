"""From a size to pools and tiers: in the order listed where pools differ in nothing, by money where they do."""

from policies.allocate.listed import allocate
from policies.allocate.place import Placed, cost_usd_per_hour, found, place, worth

__all__ = ["Placed", "allocate", "cost_usd_per_hour", "found", "place", "worth"]
