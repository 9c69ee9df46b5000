"""Imports other autoscalers' manifests as workload files, with remarks on the settings that are not carried over."""
