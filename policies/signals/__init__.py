"""Readings to demand in replicas, and what is believed of them."""
