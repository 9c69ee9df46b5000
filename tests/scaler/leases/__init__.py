"""Tests of leases, shares and fencing."""
