"""Pools of the simulated world: life cycle, markets, interruptions and billing.

``docs/explanation/fleet.md`` has the rules.
"""
