"""The published relay of Scheduled Events: it forwards one path, read-only, and runs without privileges."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[3]
CONFIG, RELAY = yaml.safe_load_all((ROOT / "config" / "deploy" / "azure-events-relay.yaml").read_text())
POD: dict[str, Any] = RELAY["spec"]["template"]["spec"]


def test_relay_forwards_one_path_read_only() -> None:
    """The metadata service issues tokens, and a POST acknowledges an event."""
    server = CONFIG["data"]["default.conf"]
    assert re.findall(r"location (.+) \{", server) == ["= /metadata/scheduledevents", "/"]
    assert "limit_except GET { deny all; }" in server
    assert server.count("proxy_pass") == 1
    assert "location / { return 404; }" in server


def test_relay_sets_the_headers_of_the_metadata_service() -> None:
    """The metadata service refuses requests without its header, or with one that marks them as forwarded."""
    server = CONFIG["data"]["default.conf"]
    assert "proxy_set_header Metadata true;" in server
    assert 'proxy_set_header X-Forwarded-For "";' in server


def test_relay_runs_on_the_host_network_without_privileges() -> None:
    (container,) = POD["containers"]
    assert POD["hostNetwork"] is True
    assert POD["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "runAsNonRoot": True,
        "capabilities": {"drop": ["ALL"]},
    }


def test_examples_and_docs_use_the_relay_port() -> None:
    (port,) = POD["containers"][0]["ports"]
    address = f"http://{{host}}:{port['containerPort']}/metadata/scheduledevents"
    for file in ("config/workloads/azure-aks-spot.yaml", "config/workloads/azure-vmss.yaml", "docs/how-to/azure.md"):
        assert address in (ROOT / file).read_text()
