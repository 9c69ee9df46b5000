"""Actuators, one file per kind of pool. See docs/how-to/add-an-actuator.md."""
