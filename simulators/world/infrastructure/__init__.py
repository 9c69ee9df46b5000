"""Pools of the simulated world: life cycle, markets, interruptions and billing (rules in ``docs/fleet.md``)."""
