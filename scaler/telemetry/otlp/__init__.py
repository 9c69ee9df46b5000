"""Traces and metrics by OTLP, the protocol of OpenTelemetry.

Its packages are imported only where it is configured.
"""
