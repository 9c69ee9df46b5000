"""Kubernetes objects with a size, on the fake API server and on a real one."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from policies.model import PoolName, WorkloadName
from scaler.actuators.kubernetes import KubernetesResizer, open_kubernetes
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.ports import Conflict
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.servers.control_plane import why_not
from tests.servers.kube_places import ENGINES, Place, fake_place, real_place

REAL = pytest.param(
    "real", marks=(pytest.mark.slow, pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one"))
)
Open: TypeAlias = Callable[..., Awaitable[KubernetesResizer]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture(params=["fake", REAL])
async def place(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Place]:
    if request.param == "fake":
        async with fake_place(tmp_path) as fake:
            yield fake
    else:
        async with real_place() as real:
            yield real


@pytest.fixture
async def opened(place: Place, clock: ManualClock) -> AsyncIterator[Open]:
    """Opens the adapter, each time as a new daemon would, on one set of resources."""
    async with Resources() as resources:

        async def opening(object_kind: str = "Deployment", api_version: str = "apps/v1") -> KubernetesResizer:
            spec = Kubernetes(
                name="llm",
                namespace=place.namespace,
                object_kind=object_kind,
                api_version=api_version,
                cluster=KubeCluster(kubeconfig=str(place.kubeconfig)),
            )
            return await open_kubernetes(
                spec, AdapterContext(resources, clock, DEADLINE_S), WorkloadName("chat"), PoolName("gpus")
            )

        yield opening


async def test_change_of_an_unrelated_field_does_not_block_a_resize(place: Place, opened: Open) -> None:
    actuator = await opened()
    observed = await settled(actuator, lambda s: s.ready == 2)
    await place.touch()
    await actuator.resize(5, observed)
    assert await place.size() == 5


async def test_size_set_by_another_writer_is_a_conflict_and_is_kept(place: Place, opened: Open) -> None:
    actuator = await opened()
    observed = await settled(actuator, lambda s: s.ready == 2)
    await place.set_size(8)
    with pytest.raises(Conflict, match=r"llm changed from 2 to 8: (kubectl|another writer) set it to 8 at 20"):
        await actuator.resize(5, observed)
    assert await place.size() == 8


async def test_other_writer_is_reported_for_its_yield_time(place: Place, opened: Open, clock: ManualClock) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: s.ready == 2)
    await place.set_size(8)
    status = await settled(actuator, lambda s: s.desired == 8)
    assert status.other_writer is not None
    assert " set it to 8 at 20" in status.other_writer
    clock.advance(599)
    assert (await settled(actuator, lambda s: s.desired == 8)).other_writer == status.other_writer
    clock.advance(2)
    assert (await settled(actuator, lambda s: s.desired == 8)).other_writer is None


async def test_new_daemon_adopts_the_current_size(place: Place, opened: Open) -> None:
    await place.set_size(8)
    assert (await settled(await opened(), lambda s: s.desired == 8)).other_writer is None


async def test_clock_set_back_does_not_prolong_the_yield(place: Place, opened: Open, clock: ManualClock) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: s.ready == 2)
    await place.set_size(8)
    await settled(actuator, lambda s: s.other_writer is not None)
    clock.advance(-86_400)
    assert (await settled(actuator, lambda s: s.desired == 8)).other_writer is None


async def test_own_write_is_not_reported_as_another_writer(place: Place, opened: Open, clock: ManualClock) -> None:
    actuator = await opened()
    await actuator.resize(5, await settled(actuator, lambda s: s.ready == 2))
    clock.advance(60)
    assert (await settled(actuator, lambda s: s.desired == 5)).other_writer is None


async def test_hpa_of_the_same_object_is_reported_as_other_writer(
    place: Place, opened: Open, clock: ManualClock
) -> None:
    actuator = await opened()
    assert (await settled(actuator, lambda s: s.ready == 2)).other_writer is None
    await place.add_hpa("by-cpu")
    assert (await actuator.status()).value.other_writer is None  # autoscalers are listed once a minute
    clock.advance(61)
    assert (await settled(actuator, lambda s: s.ready == 2)).other_writer == "HPA by-cpu"


async def test_keda_scaled_object_is_reported_instead_of_its_hpa(place: Place, opened: Open) -> None:
    await place.add_hpa("keda-hpa-by-queue")
    await place.add_scaled_object("by-queue")
    actuator = await opened()
    assert (await settled(actuator, lambda s: s.ready == 2)).other_writer == "KEDA ScaledObject by-queue"


async def test_write_of_a_known_autoscaler_is_not_reported_separately(
    place: Place, opened: Open, clock: ManualClock
) -> None:
    await place.add_hpa("by-cpu")
    actuator = await opened()
    await settled(actuator, lambda s: s.other_writer == "HPA by-cpu")
    await place.set_size(8)
    assert (await settled(actuator, lambda s: s.desired == 8)).other_writer == "HPA by-cpu"


async def test_stateful_set_is_resized(place: Place, opened: Open) -> None:
    await place.add_stateful_set()
    actuator = await opened("StatefulSet")
    await actuator.resize(3, await settled(actuator, lambda s: (s.desired, s.ready) == (2, 2)))
    assert await place.size("statefulsets") == 3
    assert await place.size("deployments") == 2


@pytest.mark.parametrize(
    ("status", "ready"),
    [
        pytest.param({"replicas": 2, "readyReplicas": 1}, 1, id="by-its-ready-replicas"),
        pytest.param({"replicas": 2}, 2, id="by-its-replicas-where-it-tells-no-readiness"),
        pytest.param({}, 0, id="by-nothing-yet"),
    ],
)
async def test_custom_resource_is_resized_through_its_scale_subresource(
    place: Place, opened: Open, status: dict[str, int], ready: int
) -> None:
    await place.add_engine(status)
    actuator = await opened("Engine", ENGINES)
    observed = await settled(actuator, lambda s: s.desired == 2)
    assert observed.ready == ready
    await actuator.resize(0, observed)
    assert await place.size("engines") == 0
    await actuator.resize(4, await settled(actuator, lambda s: s.desired == 0))
    assert await place.size("engines") == 4
