"""Statistics of Modal's functions and servers: names, units, time range, and engines without data."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
from modal_proto import api_pb2

from policies.model import Absent, Fresh
from scaler.adapters import open_source
from scaler.clock import SystemClock
from scaler.config.kinds.modal import ModalStats, ModalTokens
from scaler.config.secret import Secret
from scaler.ports import Misconfigured
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.servers.modal_api import TOKEN, DeployedFunction, Modal, modal_api

pytestmark = pytest.mark.slow
TOKENS = ModalTokens(token_id=Secret(env="TEST_MODAL_ID"), token_secret=Secret(env="TEST_MODAL_SECRET"))
AVAILABLE = api_pb2.SERVER_INFERENCE_STATS_STATUS_AVAILABLE


@pytest.fixture
async def workspace(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Modal]:
    async with modal_api() as (served, address):
        monkeypatch.setenv("MODAL_SERVER_URL", address)
        monkeypatch.setenv("TEST_MODAL_ID", TOKEN[0])
        monkeypatch.setenv("TEST_MODAL_SECRET", TOKEN[1])
        served.add(DeployedFunction("llm", "generate", "fu-1", {}, {}, 2, 5, 7))
        yield served


async def read(**settings: Any) -> dict[str, Any]:
    """Return each reading: its value, or the reason of its absence."""
    name: dict[str, Any] = {} if "function_id" in settings else {"app": "llm", "function": "generate"}
    async with Resources() as resources:
        source = await open_source(
            ModalStats(tokens=TOKENS, **name, **settings), AdapterContext(resources, SystemClock(), DEADLINE_S)
        )
        readings = await source.sample()
    return {q: r.value if isinstance(r, Fresh) else r.reason for q, r in readings.items() if _checked(r)}


def _checked(reading: Any) -> bool:
    return isinstance(reading, Fresh | Absent)


def with_engine(workspace: Modal, engine: Any, status: Any = AVAILABLE, unit: str = "s") -> None:
    """Let the server run an engine, with the statistics that Modal's own command line shows."""
    inference = workspace.functions["fu-1"].stats.inference
    inference.engine, inference.status = engine, status
    first = inference.percentile_stats["time_to_first_token"]
    first.unit = unit
    for basis_points, value in ((5000, 0.2), (9000, 0.4), (9900, 1.5)):
        first.percentiles.add(percentile_basis_points=basis_points, value=value)
    inference.scalar_stats["output_tokens_per_second"] = 900.0


async def test_function_has_its_present_inputs_and_containers(workspace: Modal) -> None:
    values = {"waiting": 5, "running": 7, "replicas": 2, "input_headroom": 0}
    assert await read() == values
    assert await read(function_id="fu-1") == values, "a class is named by its ID"


async def test_server_has_its_rates_over_the_time_range(workspace: Modal) -> None:
    server = workspace.functions["fu-1"]
    server.stats.request_rate_per_second = 4.0
    for code, count in ((200, 1100), (500, 60), (400, 40)):
        server.stats.request_count_by_status_code.add(status_code=code, count=count)
    readings = await read(of="server", window_s=300)
    assert (readings["requests_per_s"], readings["errors_per_s"]) == (4.0, 0.2)
    assert server.ranges_s == [300.0]
    assert readings["ttft_p95_s"] == "Modal finds no vLLM or SGLang in this server"


@pytest.mark.parametrize("engine", [api_pb2.LLM_ENGINE_VLLM, api_pb2.LLM_ENGINE_SGLANG], ids=["vllm", "sglang"])
async def test_engine_has_the_percentiles_that_modal_reports(workspace: Modal, engine: Any) -> None:
    with_engine(workspace, engine)
    readings = await read(of="server")
    assert [readings[f"ttft_p{p}_s"] for p in (50, 90, 99)] == [0.2, 0.4, 1.5]
    assert readings["ttft_p95_s"] == "Modal reports no p95 of time_to_first_token; it reports p50, p90, p99"
    assert readings["itl_p50_s"] == "Modal reports no inter_token_latency"
    assert readings["generation_tokens_per_s"] == 900.0
    assert readings["prompt_tokens_per_s"] == "Modal reports no input_tokens_per_second"


@pytest.mark.parametrize(
    ("status", "reason"),
    [
        (api_pb2.SERVER_INFERENCE_STATS_STATUS_NO_DATA, "Modal recorded no inference in the last 300 s"),
        (api_pb2.SERVER_INFERENCE_STATS_STATUS_UNAVAILABLE, "Modal's inference statistics are unavailable"),
        (77, "Modal's inference statistics are unrecognized"),
    ],
    ids=["no data", "unavailable", "unknown"],
)
async def test_engine_without_data_is_absent_and_not_zero(workspace: Modal, status: Any, reason: str) -> None:
    with_engine(workspace, api_pb2.LLM_ENGINE_VLLM, status)
    readings = await read(of="server")
    assert {readings[q] for q in ("ttft_p50_s", "itl_p99_s", "generation_tokens_per_s")} == {reason}
    assert readings["requests_per_s"] == 0.0


async def test_latency_in_another_unit_is_absent(workspace: Modal) -> None:
    with_engine(workspace, api_pb2.LLM_ENGINE_VLLM, unit="ms")
    assert (await read(of="server"))["ttft_p50_s"] == "Modal reports time_to_first_token in ms, not in seconds"


async def test_missing_function_is_misconfigured(workspace: Modal) -> None:
    workspace.functions.clear()
    for of in ("function", "server"):
        with pytest.raises(Misconfigured, match="no function generate"):
            await read(of=of)


def test_name_is_required() -> None:
    ((key, rule),) = ModalStats(app="llm", tokens=TOKENS).problems()
    assert (key, rule) == ("function", "is required with app, or set function_id")
