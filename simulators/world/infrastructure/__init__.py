"""Pools of the simulated world: life cycle, markets, interruptions and money. The rules stand in ``docs/fleet.md``."""
