"""Children that Ctrl-C reaches, whatever the shell that runs the tests has done with SIGINT."""

from __future__ import annotations

from typing import Final

FOREGROUND: Final = ("env", "--default-signal=INT")
"""Begins a child's command: under ``nohup make test &`` the child would inherit SIGINT as ignored."""
