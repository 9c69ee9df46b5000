"""The deployments of a model group, as LiteLLM's admin API reports them."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.model.names import BackendName
from policies.model.route import WEIGHT_TOTAL
from scaler.config.kinds.litellm import LiteLlm
from scaler.ports import Misconfigured
from scaler.routes.weighted_entries import entries_problem

STRATEGY: Final = "simple-shuffle"
"""LiteLLM's default routing strategy, and the only one that follows weights."""


@dataclass(frozen=True, slots=True)
class LiteLlmDeployment:
    """One deployment.

    `weight` is 0 where it gets no requests by its weight: it has none, or is blocked.
    """

    id: str
    weight: float
    is_blocked: bool
    is_stored: bool


def parse_group(what: str, body: Mapping[str, Any], spec: LiteLlm) -> dict[BackendName, LiteLlmDeployment]:
    """Return the deployment of each backend.

    Raises `Misconfigured` where they do not fit the backends or cannot be changed, and `ValueError` for a weight that
    is no number of at least 0.
    """
    found = {deployment.id: deployment for deployment in _deployments(body, spec.model_group)}
    configured = {spec.deployment(name): name for name in spec.backends}
    entries = [(deployment.id, math.ceil(deployment.weight)) for deployment in found.values()]
    if problem := entries_problem("deployment", "deployments", configured, entries):
        raise Misconfigured(f"{what} {problem}")
    for deployment_id in configured:
        if not found[deployment_id].is_stored:
            raise Misconfigured(
                f"{what} has the deployment {deployment_id!r} from its configuration file, which LiteLLM does not"
                " change; remove it there, and add it with POST /model/new"
            )
    return {name: found[deployment_id] for deployment_id, name in configured.items()}


def _deployments(body: Mapping[str, Any], model_group: str) -> Iterator[LiteLlmDeployment]:
    for model in body["data"]:
        if model["model_name"] != model_group:
            continue
        info, weight = model["model_info"], model["litellm_params"].get("weight") or 0.0
        if not isinstance(weight, int | float) or not 0.0 <= weight < math.inf:
            raise ValueError(f"a weight is {weight!r}")
        is_blocked, is_stored = info.get("blocked") is True, info.get("db_model") is True
        yield LiteLlmDeployment(str(info["id"]), 0.0 if is_blocked else float(weight), is_blocked, is_stored)


def weights_of(group: Mapping[BackendName, LiteLlmDeployment]) -> dict[BackendName, int]:
    """Return the weights in use as whole numbers.

    Weights with fractions are scaled. Example: 0.7 and 0.3 are 7,000 and 3,000.
    """
    used = {name: deployment.weight for name, deployment in group.items() if deployment.weight > 0.0}
    total = sum(used.values())
    scale = 1.0 if all(map(float.is_integer, used.values())) else WEIGHT_TOTAL / total
    return {name: max(1, round(weight * scale)) for name, weight in used.items()}


def strategy_problem(body: Mapping[str, Any], model_group: str) -> str:
    """Return why the router's settings ignore weights; empty where they follow them."""
    settings = body["current_values"]
    strategy = settings.get("routing_strategy") or STRATEGY
    if strategy != STRATEGY:
        return f"routing_strategy is {strategy!r}, which ignores weights; set it to {STRATEGY}"
    if model_group in (settings.get("weights") or {}):
        return f"weights of router_settings name {model_group!r} and override those of its deployments; remove them"
    return ""
