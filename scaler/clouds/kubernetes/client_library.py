"""The client library of Kubernetes, without its optional check of manifests.

It imports `kubernetes_validate` where that is installed: two seconds of processor time at each start, mostly for a
grammar of IRIs. No adapter checks manifests with it.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final, cast

OPTIONAL: Final = "kubernetes_validate"


@contextmanager
def _absent(module: str) -> Iterator[None]:
    """Let imports of `module` fail meanwhile, as where it is not installed."""
    imported = sys.modules.get(module)
    sys.modules[module] = cast("Any", None)
    try:
        yield
    finally:
        del sys.modules[module]
        if imported is not None:
            sys.modules[module] = imported


with _absent(OPTIONAL):
    from kubernetes_asyncio import client
    from kubernetes_asyncio.config import ConfigException
    from kubernetes_asyncio.config.kube_config import KubeConfigLoader, KubeConfigMerger

__all__ = ["ConfigException", "KubeConfigLoader", "KubeConfigMerger", "client"]
