"""The API server as a client: which certificates it shows when it forwards requests.

The API server publishes this in the ConfigMap `extension-apiserver-authentication` of the namespace `kube-system`. It
authenticates and authorizes a request before it forwards it, so that its own certificate is all that is checked here.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any, Final

from scaler.clouds.kubernetes.session import Session
from scaler.ports import PortError, Unavailable
from scaler.telemetry.health import Health

PATH: Final = "/api/v1/namespaces/kube-system/configmaps/extension-apiserver-authentication"
WHAT: Final = "get configmaps extension-apiserver-authentication in namespace kube-system"
PART: Final = "external metrics"
TIMEOUT_S: Final = 10.0
"""Maximum time of one read. Seconds."""
REFRESH_S: Final = 60.0
"""Time between two reads: the authority is rotated within months, with both valid for a while. Seconds."""
RETRY_S: Final = 5.0
"""Time from a failed read to the next one. Seconds."""


class FrontProxy:
    """The authorities and the names of the API server's client certificate.

    They are empty until they were read.
    """

    def __init__(self, session: Session, health: Health) -> None:
        self.authorities = ""
        self._names: frozenset[str] = frozenset()
        self._session = session
        self._health = health

    def accepts(self, certificate: dict[str, Any] | None) -> bool:
        """Return whether a verified client certificate has one of the names.

        Without any name, each certificate is accepted.
        """
        subject = (certificate or {}).get("subject", ())
        names = {value for part in subject for key, value in part if key == "commonName"}
        return bool(certificate) and (not self._names or bool(names & self._names))

    async def follow(self) -> None:
        """Read the ConfigMap, and again every minute, until cancelled."""
        while True:
            pause_s = REFRESH_S if await self.refresh() else RETRY_S
            await asyncio.sleep(pause_s)

    async def refresh(self) -> bool:
        """Read the ConfigMap, and return whether that succeeded.

        After a failure, the last content stays valid.
        """
        try:
            data = (await self._session.call(WHAT, "GET", PATH, TIMEOUT_S)).get("data")
            self.authorities, self._names = _parse(data if isinstance(data, dict) else {})
        except PortError as e:
            hint = "" if self.authorities else "; no client is accepted before"
            self._health.report(PART, f"cannot read the authority of the API server's client certificate: {e}{hint}")
            return False
        self._health.report(PART, "")
        return True


def _parse(data: dict[str, Any]) -> tuple[str, frozenset[str]]:
    """Return the authorities and the names. Raises `Unavailable`."""
    authorities = data.get("requestheader-client-ca-file")
    if not isinstance(authorities, str) or not authorities:
        remedy = "start the API server with --requestheader-client-ca-file and --proxy-client-cert-file"
        raise Unavailable(f"{WHAT}: no requestheader-client-ca-file: {remedy}")
    try:
        names = json.loads(str(data.get("requestheader-allowed-names") or "[]"))
    except ValueError as e:
        raise Unavailable(f"{WHAT}: requestheader-allowed-names is not JSON") from e
    return authorities, frozenset(map(str, names if isinstance(names, list) else ()))
