"""The file from which Envoy reads its routes, its replacement, and its other writers."""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from scaler.ports import Misconfigured

OWN: Final = "forescale-"
"""Start of the version of a file that a daemon has written. The digest of its content follows."""
MAX_BYTES: Final = 2**20
"""Maximum size of a file that is read: a daemon writes some kilobytes."""
TYPE: Final = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration"


@dataclass(frozen=True, slots=True)
class StoredRoutes:
    """The file as it was read.

    `digest` is that of its bytes, and `is_own` says whether a daemon wrote all of it.
    """

    digest: str
    version_info: str
    is_own: bool
    changed_at: float


class RouteFile:
    """One file with one route configuration.

    The version of a written file contains the digest of its routes. So an edited file is recognised after a restart of
    the daemon too.
    """

    def __init__(self, path: str, route_config: str) -> None:
        self._path = Path(path)
        self._route_config = route_config
        self._has_own = False

    def read(self) -> StoredRoutes | None:
        """Return the stored routes; None where the file does not exist. Raises `Misconfigured`."""
        try:
            with self._path.open("rb") as f:
                content, changed_at = f.read(MAX_BYTES), os.fstat(f.fileno()).st_mtime
        except FileNotFoundError:
            return None
        except OSError as e:
            raise Misconfigured(f"{self._path}: {e.strerror}; the daemon must be able to read and replace it") from e
        version, is_own = _version(content)
        self._has_own |= is_own
        return StoredRoutes(hashlib.sha256(content).hexdigest()[:16], version, is_own, changed_at)

    def other_writer(self, stored: StoredRoutes, now: float, yield_s: float) -> str | None:
        """Return the other writer of the file for `yield_s` after its change; else None.

        A file that no daemon has written is the first one, and is replaced. After a daemon's file, it is a change by
        another writer, as an edited one is.
        """
        is_foreign = not stored.is_own and (self._has_own or stored.version_info.startswith(OWN))
        if not is_foreign or not 0.0 <= now - stored.changed_at < yield_s:
            return None
        at = datetime.fromtimestamp(stored.changed_at, UTC).isoformat(timespec="seconds")
        return f"another writer changed {self._path} at {at}"

    def write(self, action: Mapping[str, Any]) -> None:
        """Replace the file by one with this route. Raises `Misconfigured`."""
        content = json.dumps(_document(self._route_config, action), indent=1).encode() + b"\n"
        try:
            descriptor, temporary = tempfile.mkstemp(dir=self._path.parent, prefix=f".{self._path.name}.")
            try:
                with os.fdopen(descriptor, "wb") as f:
                    f.write(content)
                    f.flush()
                    os.fsync(f.fileno())
                Path(temporary).chmod(0o644)  # Envoy often runs as another user
                Path(temporary).replace(self._path)
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
        except OSError as e:
            raise Misconfigured(f"{self._path}: {e.strerror}; {self._remedy}") from e
        self._has_own = True

    def write_problem(self) -> str:
        """Return why the file cannot be replaced; empty where it can."""
        folder = self._path.parent
        return "" if os.access(folder, os.W_OK | os.X_OK) else f"{folder} is no folder that the daemon can write"

    @property
    def _remedy(self) -> str:
        return f"the daemon must be able to write files in {self._path.parent}"


def _document(route_config: str, action: Mapping[str, Any]) -> dict[str, Any]:
    """Return the discovery response with one route for all requests."""
    host = {"name": route_config, "domains": ["*"], "routes": [{"match": {"prefix": "/"}, **action}]}
    resources = [{"@type": TYPE, "name": route_config, "virtual_hosts": [host]}]
    return {"version_info": OWN + _digest(resources), "resources": resources}


def _digest(resources: Any) -> str:
    return hashlib.sha256(json.dumps(resources, sort_keys=True).encode()).hexdigest()[:16]


def _version(content: bytes) -> tuple[str, bool]:
    """Return the version of a file, and whether it fits the content. Other files have none."""
    try:
        document = json.loads(content)
        version = str(document["version_info"])
        return version, version == OWN + _digest(document["resources"])
    except (ValueError, LookupError, TypeError, RecursionError):
        return "", False
