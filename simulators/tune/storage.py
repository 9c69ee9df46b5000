"""Storage of a study: a log in its own folder, or any database that Optuna supports.

One client leads it at a time.

A folder is locked by the operating system, which releases the lock when a client dies. In a database the client renews
a lease.
"""

from __future__ import annotations

import fcntl
import importlib.util
import os
import uuid
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, Final
from urllib.parse import urlsplit

from scaler.clock import wall_time
from scaler.config.problems import ConfigError, Problem
from simulators.experiments.spec_loader import COMMAND_LINE

LOG_FILE: Final = "study.log"
LEASE_S: Final = 60.0
"""A lease expires this long after its last renewal: six renewals may fail. Seconds."""
RENEW_S: Final = 10.0
LEASE: Final = "leader"


class LostLease(Exception):
    """Another client leads the study: this one must not write to it."""


@contextmanager
def lead_folder(folder: Path) -> Iterator[str]:
    """Lock a folder and yield its name for a lease.

    Raises `ConfigError` if another client has it.
    """
    try:
        folder.mkdir(exist_ok=True)
        lock = (folder / ".lock").open("a+")
    except OSError as e:
        raise _problem("--out", str(folder), f"cannot be written: {e.strerror}", "name another folder") from e
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as e:
            rule = "is in use by another forescale tune"
            raise _problem("--out", str(folder), rule, "wait for it, or name another folder") from e
        lock.seek(0)
        name = lock.read().strip() or uuid.uuid4().hex
        lock.truncate(0)
        lock.write(name)
        lock.flush()
        yield name


class _NoLock:
    """A lock that does nothing.

    The folder's lock is held, and a lock file could outlive a killed client.
    """

    def acquire(self) -> bool:
        return True

    def release(self) -> None:
        return


def open_storage(url: str | None, folder: Path) -> Any:
    """Open Optuna's storage. Raises `ConfigError` if the database cannot be reached."""
    from optuna.storages import JournalStorage, RDBStorage  # noqa: PLC0415 - an extra, and slow to import
    from optuna.storages.journal import JournalFileBackend  # noqa: PLC0415

    if url is None:
        _truncate_partial_line(folder / LOG_FILE)
        return JournalStorage(JournalFileBackend(str(folder / LOG_FILE), _NoLock()))
    try:
        return RDBStorage(
            _with_driver(url), engine_kwargs={"pool_pre_ping": True} if not url.startswith("sqlite") else None
        )
    except Exception as e:
        why = str(e).strip().splitlines()[0] if str(e).strip() else type(e).__name__
        raise _problem("--storage", without_secret(url), f"cannot be opened: {why}", _URL_HINT) from e


def _with_driver(url: str) -> str:
    """Add the installed driver to a PostgreSQL URL without one.

    The driver is named because SQLAlchemy's default one has changed.
    """
    scheme, separator, location = url.partition("://")
    if scheme in {"postgresql", "postgres"}:
        drivers = [name for name in ("psycopg", "psycopg2") if importlib.util.find_spec(name) is not None]
        scheme = f"postgresql+{drivers[0]}" if drivers else scheme
    return f"{scheme}{separator}{location}"


_URL_HINT: Final = "such as postgresql://user@host/database or sqlite:////var/lib/tune.db, with its driver installed"


def without_secret(url: str) -> str:
    """Return a database's URL without its password."""
    password = urlsplit(url).password
    return url.replace(f":{password}@", ":***@") if password else url


def _truncate_partial_line(log: Path) -> None:
    """Remove a last line that a killed client did not complete."""
    if not log.exists():
        return
    with log.open("r+b") as file:
        size = file.seek(0, os.SEEK_END)
        tail_size = min(size, 1 << 24)
        file.seek(size - tail_size)
        tail = file.read()
        if tail and not tail.endswith(b"\n"):
            file.truncate(size - tail_size + tail.rfind(b"\n") + 1)


class StudyLease:
    """Lease of a study in a database.

    A client takes over at once from an earlier one of the same folder.
    """

    def __init__(self, study: Any, name: str) -> None:
        self._study = study
        self._name = name
        self._renewed_s = -1e18

    def take(self) -> None:
        """Acquire the lease. Raises `ConfigError` while another client holds it."""
        lease = self._study.user_attrs.get(LEASE)
        if lease and lease["name"] not in {self._name, ""}:
            age_s = _age_s(lease["at"], wall_time())
            if age_s < LEASE_S:
                rule = f"is in use by a client on {lease['host']}, last seen {max(0.0, age_s):.0f} s ago"
                hint = f"stop that client, or wait until its lease of {LEASE_S:g} s expires"
                raise _problem("--storage", self._study.study_name, rule, hint)
        self._write()

    def renew(self, now_s: float) -> None:
        """Renew the lease every `RENEW_S`. Raises `LostLease`."""
        if now_s - self._renewed_s < RENEW_S:
            return
        lease: Mapping[str, str] = self._study.user_attrs.get(LEASE, {})
        if lease.get("name") != self._name:
            raise LostLease(
                f"study {self._study.study_name} was taken over by a client on {lease.get('host')}; finished trials are"
                " saved: repeat the command when that client has ended"
            )
        self._renewed_s = now_s
        self._write()

    def leave(self) -> None:
        self._study.set_user_attr(LEASE, {"name": "", "host": "", "at": wall_time()})

    def _write(self) -> None:
        self._study.set_user_attr(LEASE, {"name": self._name, "host": os.uname().nodename, "at": wall_time()})


def _age_s(start: str, end: str) -> float:
    times = [datetime.fromisoformat(t) for t in (start, end)]
    return (times[1] - times[0]).total_seconds()


def _problem(option: str, value: str, rule: str, hint: str) -> ConfigError:
    return ConfigError([Problem(COMMAND_LINE, 1, option, value, rule, hint)])
