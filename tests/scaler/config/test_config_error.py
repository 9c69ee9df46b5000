"""`ConfigError` between processes."""

from __future__ import annotations

import copy

from scaler.config.problems import ConfigError, Problem


def test_config_error_crosses_processes() -> None:
    error = ConfigError([Problem("chat.yaml", 3, "max_replicas", "0", "must be 1 or more", "set it to 1")])
    again = copy.copy(error)  # by the same protocol as between processes
    assert (again.problems, str(again)) == (error.problems, str(error))
