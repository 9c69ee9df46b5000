"""Views of a tick: log line, metrics, health, dashboard."""
