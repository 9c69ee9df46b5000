"""Imports other autoscalers' manifests as workload files.

Remarks name the settings that are not carried over.
"""
