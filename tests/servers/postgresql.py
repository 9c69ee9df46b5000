"""A private PostgreSQL on a free port. Debian's `postgresql` package has it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import pytest

from tests.servers.tcp_fault import free_port

INITDB: Final = shutil.which("initdb")
USER: Final = "admin"
PATIENCE_S: Final = 60.0
PAUSE_S: Final = 0.05
needs_postgres = pytest.mark.skipif(INITDB is None, reason="no initdb on PATH (Debian: apt install postgresql)")


@contextmanager
def postgres(tls: Path | None = None) -> Iterator[str]:
    """Start a database and yield its URL. PostgreSQL refuses to run as root; it then runs as nobody.

    Its TLS files are `ca.pem` and `key.pem` in the folder `tls`.
    """
    port = free_port()
    user = pwd.getpwnam("nobody") if os.geteuid() == 0 else pwd.getpwuid(os.geteuid())
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        os.chown(folder, user.pw_uid, user.pw_gid)
        data = Path(folder) / "data"
        created = ["initdb", "-D", str(data), "-U", USER, "-A", "trust", "--no-sync", "-E", "UTF8"]
        subprocess.run(created, check=True, user=user.pw_uid, capture_output=True, cwd=folder)
        command = ["postgres", "-D", str(data), "-p", str(port), "-h", "127.0.0.1", "-k", folder, "-F"]
        for name in ("ca.pem", "key.pem") if tls is not None else ():
            file = Path(shutil.copy(Path(str(tls), name), data))
            file.chmod(0o600)
            os.chown(file, user.pw_uid, user.pw_gid)
        if tls is not None:
            command += ["-c", "ssl=on", "-c", "ssl_cert_file=ca.pem", "-c", "ssl_key_file=key.pem"]
        server = subprocess.Popen(
            command, user=user.pw_uid, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        try:
            _wait_until_ready(port)
            yield f"postgresql://{USER}@127.0.0.1:{port}/postgres"
        finally:
            server.send_signal(signal.SIGINT)
            server.wait(30)


def _wait_until_ready(port: int) -> None:
    for _ in range(round(PATIENCE_S / PAUSE_S)):
        if subprocess.run(["pg_isready", "-h", "127.0.0.1", "-p", str(port), "-q"], check=False).returncode == 0:
            return
        time.sleep(PAUSE_S)
    raise AssertionError(f"PostgreSQL is not ready within {PATIENCE_S:g} s")
