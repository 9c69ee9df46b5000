"""Streams run while sizes change at random: none is cut before the deadline, and no pod is left over."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scaler.shared_resources import Resources
from tests.scaler.clouds.test_kubernetes_drain import DEADLINE_S, ROUTED, SINCE, Stage
from tests.servers.kube_controller import controllers
from tests.servers.kube_fake import kube_fake, write_kubeconfig
from tests.servers.kube_objects import put_deployment
from tests.servers.pod_engines import pod_engines

TICKS = 40
TICK_S = 6.0
END_PROBABILITY = 0.4
"""Probability that a stream ends within a tick: streams are far shorter than the deadline."""


class Router:
    """Routes each new stream to the least busy pod among those that the Service selects."""

    def __init__(self, stage: Stage, rng: random.Random) -> None:
        self._stage = stage
        self._rng = rng
        self.cut = 0.0
        self._gone = 0

    def tick(self, arrivals: int) -> None:
        """End some streams and start new ones."""
        loads = self._stage.engines.loads
        for address, load in loads.items():
            loads[address] = float(sum(self._rng.random() > END_PROBABILITY for _ in range(int(load or 0))))
        routed = [p["status"]["podIP"] for p in self._stage.fake.all("pods") if ROUTED in p["metadata"]["labels"]]
        for _ in range(arrivals):
            chosen = min(routed, key=lambda address: loads.get(address) or 0.0)
            loads[chosen] = (loads.get(chosen) or 0.0) + 1.0

    def settle(self, addresses: dict[str, str]) -> None:
        """Count the streams on removed pods."""
        removed = self._stage.control.removed
        for name in removed[self._gone :]:
            self.cut += self._stage.engines.loads.pop(addresses[name], 0.0) or 0.0
        self._gone = len(removed)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_random_resizes_cut_no_stream_before_the_deadline(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a test's own rng
    async with kube_fake() as fake, pod_engines() as engines, Resources() as resources:
        await put_deployment(fake, "llm", 4, labels={ROUTED: "true"})
        for number in range(4):
            await fake.put("pods", f"llm-{number}", {"status": {"podIP": f"127.0.0.{10 + number}"}})
        async with controllers(fake, "deployments", "llm") as control:
            control.labels, control.addressed = {ROUTED: "true"}, True
            stage = Stage(fake, engines, control, write_kubeconfig(tmp_path / "kubeconfig", fake.port))
            stage.load(0, 0, 0, 0)
            router, actuator, target = Router(stage, rng), await stage.open(resources), 4
            sizes = set()
            for tick in range(TICKS):
                if tick % 5 == 0:
                    target = rng.randint(1, 6)
                router.tick(arrivals=rng.randint(0, 2 * target))
                addresses = {p["metadata"]["name"]: p["status"]["podIP"] for p in fake.all("pods")}
                status = await stage.tick(actuator, target, after_s=TICK_S)
                router.settle(addresses)
                assert status.desired == target
                sizes.add(stage.size)
            assert TICK_S * 5 < DEADLINE_S
            assert router.cut == 0
            assert len(sizes) > 2
            assert control.removed
            for _ in range(20):
                router.tick(arrivals=0)
                await stage.tick(actuator, target, after_s=TICK_S)
            left = [p for p in fake.all("pods") if SINCE in p["metadata"].get("annotations", {})]
            assert (stage.size, left, actuator.unfinished()) == (target, [], False)
