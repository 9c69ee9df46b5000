"""Settings of published pools and of the servers that publish them: refused values, and warnings."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from scaler.config.load import Config, load
from scaler.config.partners import Partners
from scaler.config.problems import ConfigError
from scaler.config.warnings import warnings
from scaler.extras import missing_packages
from tests.scaler.partners.published import CHAT, workload

TLS = {"certificate": "/etc/tls/tls.crt", "key": "/etc/tls/tls.key"}


def loaded(folder: Path, partners: dict[str, Any], **settings: Any) -> Config:
    documents = {"daemon": {"daemon": {"partners": partners}}, "chat": {**workload().document, **settings}}
    for name, document in documents.items():
        (folder / f"{name}.yaml").write_text(json.dumps(document))
    return load([folder])


@pytest.mark.parametrize(
    ("partners", "problem"),
    [
        ({"keda": {"client_ca": "/etc/tls/ca.crt"}}, "daemon.partners.keda.client_ca.* needs tls: a client shows"),
        ({"keda": {"listen": "0.0.0.0:70000"}}, "daemon.partners.keda.listen.* must have a port from 0 to 65535"),
        ({"external_metrics": {}}, "daemon.partners.external_metrics.tls: is required"),
        ({"external_metrics": {"tls": TLS, "listen": "6443"}}, "external_metrics.listen.* must be HOST:PORT"),
        ({"hpa": {}}, "daemon.partners.hpa: unknown key"),
    ],
)
def test_invalid_settings_are_refused(tmp_path: Path, partners: dict[str, Any], problem: str) -> None:
    with pytest.raises(ConfigError, match=problem):
        loaded(tmp_path, partners)


@pytest.mark.parametrize("settings", [{"on_other_writer": "take_over"}, {"drain": {}}, {"other_writer_yield_s": 60}])
def test_published_pool_has_no_settings_of_a_writer(tmp_path: Path, settings: dict[str, Any]) -> None:
    pool = {"kind": "published", "name": "chat", "namespace": "llm", **settings}
    with pytest.raises(ConfigError, match=f"pools.gpus.{next(iter(settings))}"):
        loaded(tmp_path, {}, pools={"gpus": pool})


def test_published_pool_and_a_writing_pool_of_one_object_are_refused(tmp_path: Path) -> None:
    pools = {kind: {"kind": kind, "name": "chat", "namespace": "llm"} for kind in ("kubernetes", "published")}
    with pytest.raises(ConfigError, match="chat"):
        loaded(tmp_path, {}, pools=pools)


def test_published_pool_without_a_server_is_a_warning(tmp_path: Path) -> None:
    spec = loaded(tmp_path, {"keda": {}}).workloads[CHAT].spec
    assert [place for place, *_ in warnings(spec, Partners())] == [("pools", "gpus")]


def test_servers_need_their_extras(tmp_path: Path) -> None:
    config = loaded(tmp_path, {"keda": {}, "external_metrics": {"tls": TLS}})
    assert missing_packages(config).keys() >= {"keda", "kubernetes"}
    assert list(warnings(config.workloads[CHAT].spec, config.daemon.partners)) == []
