"""The embedded kinds: their configuration, their readings, and the packages that they need."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

import pytest
import yaml

from policies.model import Fresh, PoolName, WorkloadName
from scaler.adapters import open_pool
from scaler.config.load import load
from scaler.config.problems import ConfigError
from scaler.shared_resources import AdapterContext, Resources
from simulators.quickstart.embedded import open_embedded_source
from simulators.quickstart.kinds import ENGINES, QUEUE, EmbeddedPool, EmbeddedSource, Traffic
from simulators.world import queue, telemetry
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock

ROOT = Path(__file__).parents[3]


def configuration(folder: Path, source: Mapping[str, object] = {}, pool: Mapping[str, object] = {}) -> Path:
    document = {
        "workload": "llm",
        "max_replicas": 8,
        "sources": {"queue": {"kind": "embedded", **source}},
        "policies": {"depth": {"kind": "queue_depth"}},
        "pools": {"gpus": {"kind": "embedded", **pool}},
    }
    (folder / "w.yaml").write_text(
        f"daemon: {{listen: '127.0.0.1:0', journal: {{directory: null}}}}\n---\n{yaml.safe_dump(document)}"
    )
    return folder / "w.yaml"


def test_the_world_provides_every_quantity_of_the_embedded_sources() -> None:
    assert set(QUEUE) <= set(queue.QUANTITIES)
    assert set(ENGINES) <= set(telemetry.QUANTITIES)


@pytest.mark.parametrize(
    ("source", "pool", "path", "rule"),
    [
        pytest.param(
            {}, {"model": "llama-3.1-8b-h100-vlm"}, "pools.gpus.model", "'llama-3.1-8b-h100-vllm'", id="model"
        ),
        pytest.param({}, {"market": "reserved"}, "pools.gpus.capacity", "fixed number of nodes", id="reserved"),
        pytest.param({}, {"price_usd_per_hour": 1e-7}, "pools.gpus.price_usd_per_hour", "micro-dollars", id="price"),
        pytest.param({"traffic": {"mean_rps": 101}}, {}, "sources.queue.traffic.mean_rps", "100", id="rate"),
        pytest.param(
            {"traffic": {"batch_s": 1800}}, {}, "sources.queue.traffic.batch_s", "below every_s, 1800", id="batch"
        ),
    ],
)
def test_invalid_embedded_settings_are_rejected(
    tmp_path: Path, source: Mapping[str, object], pool: Mapping[str, object], path: str, rule: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load([configuration(tmp_path, source, pool)])
    (problem,) = caught.value.problems
    assert problem.path == path
    assert rule in problem.rule


async def test_a_full_world_reports_lower_bounds() -> None:
    clock = ManualClock()
    async with Resources() as resources:
        context = AdapterContext(resources, clock, DEADLINE_S)
        source = await open_embedded_source(EmbeddedSource(traffic=Traffic(mean_rps=10.0)), context)
        await open_pool(EmbeddedPool(initial_replicas=0), context, WorkloadName("llm"), PoolName("gpus"))
        first = (await source.sample())["visible"]
        clock.advance(4 * 3600.0)
        reading = (await source.sample())["visible"]
    assert isinstance(first, Fresh)
    assert isinstance(reading, Fresh)
    assert first.missing == ""
    assert "rejects requests" in reading.missing
    assert reading.value > 10_000


async def test_traffic_changes_only_when_the_changed_source_is_used() -> None:
    clock = ManualClock()
    async with Resources() as resources:
        context = AdapterContext(resources, clock, DEADLINE_S)
        source = await open_embedded_source(EmbeddedSource(), context)
        await open_pool(EmbeddedPool(initial_replicas=2), context, WorkloadName("llm"), PoolName("gpus"))

        async def arrivals_after(in_s: float) -> int:
            clock.advance(in_s)
            await source.sample()
            return (await source.live.present()).kernel.arrived

        await source.sample()
        quiet = await open_embedded_source(EmbeddedSource(traffic=Traffic(mean_rps=0.0)), context)
        first = await arrivals_after(1800.0)
        assert await arrivals_after(1800.0) > first > 0
        source = quiet
        last = await arrivals_after(1200.0)
        assert await arrivals_after(1800.0) == last


async def test_engine_readings_have_the_age_of_the_last_scrape() -> None:
    clock = ManualClock()
    async with Resources() as resources:
        context = AdapterContext(resources, clock, DEADLINE_S)
        source = await open_embedded_source(EmbeddedSource(offers="engines"), context)
        await open_pool(EmbeddedPool(), context, WorkloadName("llm"), PoolName("gpus"))
        await source.sample()
        clock.advance(70.0)
        sample = await source.sample()
    running = sample["running"]
    assert isinstance(running, Fresh)
    assert clock.now() - running.measured_at == pytest.approx(10.0)
    assert set(sample) == set(ENGINES)


@pytest.mark.slow
def test_missing_simulator_packages_are_reported_with_the_remedy(tmp_path: Path) -> None:
    file = configuration(tmp_path)
    script = (
        "import sys; sys.modules['numba'] = None; from scaler.cli import main;"
        f"assert main(['check', {str(file)!r}]) == 0; sys.exit(main(['run', {str(file)!r}, '--once']))"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=False)
    assert done.returncode == 2, done.stdout + done.stderr
    assert "llm: numba is not installed (pip install 'forescale[sim]')" in done.stderr
