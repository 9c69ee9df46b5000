"""Children that Ctrl-C reaches, whatever the shell that runs the tests has done with SIGINT."""

from __future__ import annotations

import signal


def foreground() -> None:
    """Let SIGINT end the child (`preexec_fn`): under ``nohup make test &`` it is inherited as ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
