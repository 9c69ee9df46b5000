"""Actuators, one file per kind of pool. See docs/add-an-actuator.md."""
