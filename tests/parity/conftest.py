"""Environment of the live adapters: no credentials but those of the counterparts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.servers.aws import KEYS, isolate


@pytest.fixture(autouse=True)
def _environment(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    isolate(monkeypatch, tmp_path, **KEYS)
    for name in ("AZURE_CLIENT_ID", "AZURE_TENANT_ID", "AZURE_FEDERATED_TOKEN_FILE", "AZURE_AUTHORITY_HOST"):
        monkeypatch.delenv(name, raising=False)
