"""Faults of a Kubernetes API server: errors, silence, restarts; on the fake server."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import TypeAlias

import pytest

from policies.model import PoolName, WorkloadName
from scaler.actuators.kubernetes import KubernetesResizer, open_kubernetes
from scaler.clock import SystemClock
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.credentials import in_pod
from scaler.clouds.kubernetes.fallback_reads import FALLBACK_READS
from scaler.clouds.singleflight import Singleflight
from scaler.config.kinds.kubernetes import Kubernetes
from scaler.ports import Misconfigured, PortError, Throttled, Unavailable
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.patience import PATIENCE_S
from tests.servers.daemon import until
from tests.servers.kube_fake import Served, write_kubeconfig
from tests.servers.kube_places import FakePlace, fake_place
from tests.servers.tcp_fault import ProxyFault

Open: TypeAlias = Callable[..., Awaitable[KubernetesResizer]]


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
async def place(tmp_path: Path) -> AsyncIterator[FakePlace]:
    async with fake_place(tmp_path) as opened:
        yield opened


@pytest.fixture
async def opened(place: FakePlace, clock: ManualClock) -> AsyncIterator[Open]:
    async with Resources() as resources:

        async def opening(
            name: str = "llm", kind: str = "Deployment", version: str = "apps/v1", deadline_s: float = DEADLINE_S
        ) -> KubernetesResizer:
            cluster = KubeCluster(kubeconfig=str(place.kubeconfig))
            spec = Kubernetes(name=name, object_kind=kind, api_version=version, cluster=cluster)
            return await open_kubernetes(
                spec, AdapterContext(resources, clock, deadline_s), WorkloadName("chat"), PoolName("gpus")
            )

        yield opening


async def watched(place: FakePlace, actuator: KubernetesResizer) -> None:
    """Return when the shared watch runs and has the object."""
    await settled(actuator, lambda s: s.desired == 2)
    await until(lambda: ("watch", "deployments") in place.fake.calls)


async def failure(actuator: KubernetesResizer) -> PortError:
    """Return the error of the status, once it has one."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            try:
                await actuator.status()
            except PortError as e:
                return e
            await asyncio.sleep(0.01)


# --- freshness


@pytest.mark.slow
async def test_size_has_the_time_of_its_last_confirmation(place: FakePlace, opened: Open, clock: ManualClock) -> None:
    actuator = await opened()
    await watched(place, actuator)
    listed_at = clock.now()
    place.fake.silent = True
    clock.advance(19)
    assert (await actuator.status()).measured_at == listed_at


async def test_size_is_read_again_after_a_watch_is_silent_for_20_s(
    place: FakePlace, opened: Open, clock: ManualClock
) -> None:
    actuator = await opened()
    await watched(place, actuator)
    place.fake.silent = True
    await place.set_size(8)
    assert (await actuator.status()).value.desired == 2
    clock.advance(21)
    status = await actuator.status()
    assert status.value.desired == 8
    assert status.measured_at == clock.now()


@pytest.mark.slow
async def test_watch_that_ends_regularly_confirms_its_state(place: FakePlace, opened: Open, clock: ManualClock) -> None:
    place.fake.watch_s = 0.05
    actuator = await opened()
    await watched(place, actuator)
    clock.advance(19)
    reads = place.fake.calls.count(("get", "deployments"))
    expected = place.fake.calls.count(("watch", "deployments")) + 1
    await until(lambda: place.fake.calls.count(("watch", "deployments")) > expected)
    assert (await actuator.status()).measured_at == clock.now()
    assert place.fake.calls.count(("get", "deployments")) == reads


async def test_an_unconfirmed_size_is_not_reported(place: FakePlace, opened: Open, clock: ManualClock) -> None:
    actuator = await opened()
    await watched(place, actuator)
    before = await actuator.status()
    place.proxy.fault = ProxyFault.RESET
    place.proxy.tear_down()
    assert (await actuator.status()).measured_at == before.measured_at
    clock.advance(21)
    with pytest.raises(Unavailable):
        await actuator.status()
    clock.advance(-86_400)  # nor after the clock was set back
    with pytest.raises(Unavailable):
        await actuator.status()


async def test_expired_watch_lists_again(place: FakePlace, opened: Open) -> None:
    actuator = await opened()
    await watched(place, actuator)
    place.fake.silent = True
    await place.set_size(8)
    await place.fake.compact()
    assert (await settled(actuator, lambda s: s.desired == 8)).desired == 8
    place.fake.silent = False
    await place.set_size(9)
    assert (await settled(actuator, lambda s: s.desired == 9)).desired == 9


async def test_an_etcd_restored_from_a_backup_is_accepted(place: FakePlace, opened: Open, clock: ManualClock) -> None:
    actuator = await opened()
    await watched(place, actuator)
    place.fake.version = 5  # versions restart below all earlier ones
    await place.set_size(8)
    await place.fake.drop_watches()
    clock.advance(21)
    assert (await settled(actuator, lambda s: s.desired == 8)).desired == 8


@pytest.mark.slow
async def test_one_watch_serves_all_workloads_of_a_namespace(place: FakePlace, opened: Open) -> None:
    names = [f"llm-{n}" for n in range(300)]  # more than a page of the list
    for name in names:
        await place.fake.put("deployments", name, {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}})
    actuators = [await opened(name) for name in names]
    await asyncio.gather(*(a.status() for a in actuators))
    await watched(place, actuators[0])
    place.fake.calls.clear()
    statuses = await asyncio.gather(*(a.status() for a in actuators))
    assert {(s.value.desired, s.value.ready) for s in statuses} == {(2, 2)}
    assert place.fake.calls == []
    for name in names:
        await place.fake.put("deployments", name, {"status": {"readyReplicas": 1}})
    for actuator in actuators:
        await settled(actuator, lambda s: s.ready == 1)
    assert place.fake.calls == []


async def test_first_sizes_come_from_the_list(place: FakePlace, opened: Open) -> None:
    names = [f"llm-{n}" for n in range(24)]
    for name in names:
        await place.fake.put("deployments", name, {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}})
    actuators = [await opened(name) for name in names]
    statuses = await asyncio.gather(*(a.status() for a in actuators))
    assert {s.value.desired for s in statuses} == {2}
    assert ("get", "deployments") not in place.fake.calls


async def test_object_created_after_the_list_is_known_without_a_read(place: FakePlace, opened: Open) -> None:
    known = await opened()
    await watched(place, known)
    await place.fake.put("deployments", "later", {"spec": {"replicas": 3}, "status": {"readyReplicas": 3}})
    await place.fake.put("deployments", "llm", {"status": {"readyReplicas": 1}})
    await settled(known, lambda s: s.ready == 1)  # so the event before it has come, too
    place.fake.calls.clear()
    status = await (await opened("later")).status()
    assert (status.value.desired, status.value.ready) == (3, 3)
    assert ("get", "deployments") not in place.fake.calls


async def unconfirmed(place: FakePlace, opened: Open, clock: ManualClock, deadline_s: float) -> list[KubernetesResizer]:
    """Return pools of more objects than may be read at once, whose watch has been silent for too long.

    Reads of single objects are not answered, and not counted until now.
    """
    names = [f"llm-{n}" for n in range(3 * FALLBACK_READS)]
    for name in names:
        await place.fake.put("deployments", name, {"spec": {"replicas": 2}, "status": {"readyReplicas": 2}})
    actuators = [await opened(name, deadline_s=deadline_s) for name in names]
    await asyncio.gather(*(settled(a, lambda s: s.desired == 2) for a in actuators))
    await watched(place, actuators[0])
    place.fake.silent = True
    clock.advance(21)
    place.fake.calls.clear()
    place.fake.answers_get.clear()
    return actuators


async def test_objects_of_a_silent_watch_are_read_a_few_at_a_time(
    place: FakePlace, opened: Open, clock: ManualClock
) -> None:
    actuators = await unconfirmed(place, opened, clock, DEADLINE_S)
    reads = [asyncio.create_task(a.status()) for a in actuators]
    await until(lambda: place.fake.calls.count(("get", "deployments")) >= FALLBACK_READS)
    await asyncio.sleep(0.1)  # time for more reads, if they were not limited
    assert place.fake.calls.count(("get", "deployments")) == FALLBACK_READS
    place.fake.answers_get.set()
    statuses = await asyncio.gather(*reads)
    assert {(s.value.desired, s.measured_at) for s in statuses} == {(2, clock.now())}
    assert place.fake.calls.count(("get", "deployments")) == len(actuators)


@pytest.mark.slow
async def test_reads_without_a_place_end_within_the_deadline(
    place: FakePlace, opened: Open, clock: ManualClock
) -> None:
    actuators = await unconfirmed(place, opened, clock, deadline_s=2.0)
    async with asyncio.timeout(PATIENCE_S):
        errors = await asyncio.gather(*(a.status() for a in actuators), return_exceptions=True)
    assert {type(e) for e in errors} == {Unavailable}
    waited = [str(e) for e in errors if "8 reads of single objects were in flight" in str(e)]
    assert len(waited) >= FALLBACK_READS, errors
    assert all(e.startswith("the watch has not confirmed Deployment llm-") for e in waited)
    assert place.fake.calls.count(("get", "deployments")) <= 2 * FALLBACK_READS
    place.fake.answers_get.set()


# --- errors by remedy


@pytest.mark.parametrize(
    ("status", "error", "says"),
    [
        pytest.param(401, Misconfigured, "rejects the daemon's credentials", id="not-who-we-say"),
        pytest.param(404, Misconfigured, "does not serve apps/v1", id="no-such-api"),
        pytest.param(500, Unavailable, "HTTP 500", id="server-error"),
        pytest.param(503, Unavailable, "HTTP 503", id="unavailable"),
        pytest.param(302, Unavailable, "HTTP 302", id="a-login-page"),
    ],
)
async def test_http_error_of_the_api_server_maps_to_a_port_error(
    place: FakePlace, opened: Open, status: int, error: type[PortError], says: str
) -> None:
    actuator = await opened()
    if status == 401:
        place.fake.tokens.clear()
    else:
        place.fake.broken = status
    with pytest.raises(error, match=says):
        await actuator.status()


@pytest.mark.slow
@pytest.mark.parametrize(
    "body",
    [
        pytest.param(b"<html>please log in</html>", id="no-json"),
        pytest.param(b'{"kind": "APIResourceList", "resour', id="cut-short"),
        pytest.param(b"[]", id="a-list"),
        pytest.param(b'{"kind": "APIResourceList"}', id="without-the-list"),
        pytest.param(b'{"resources": [1]}', id="of-something-else"),
        pytest.param(b"\xff\xfe", id="no-text"),
    ],
)
async def test_malformed_response_is_unavailable(place: FakePlace, opened: Open, body: bytes) -> None:
    actuator = await opened()
    place.fake.garbage = body
    with pytest.raises(Unavailable):
        await actuator.status()
    place.fake.garbage = None
    assert (await settled(actuator, lambda s: s.ready == 2)).desired == 2


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"spec": {"replicas": -1}}, id="negative"),
        pytest.param({"spec": {"replicas": "two"}}, id="a-word"),
        pytest.param({"spec": {"replicas": 2.5}}, id="a-fraction"),
        pytest.param({"status": {"readyReplicas": -1}}, id="ready-negative"),
        pytest.param({"status": {"readyReplicas": True}}, id="ready-a-boolean"),
    ],
)
async def test_invalid_replica_count_is_unavailable(place: FakePlace, opened: Open, body: dict[str, object]) -> None:
    await place.fake.put("deployments", "llm", body)
    with pytest.raises(Unavailable, match="is not a number of machines"):
        await (await opened()).status()


async def test_omitted_ready_replicas_count_as_zero(place: FakePlace, opened: Open) -> None:
    await place.fake.put("deployments", "llm", {"status": {"readyReplicas": None}})
    status = (await (await opened()).status()).value
    assert (status.desired, status.ready) == (2, 0)


async def test_omitted_replicas_are_unavailable(place: FakePlace, opened: Open) -> None:
    """The API server sets it by default."""
    await place.fake.put("deployments", "llm", {"spec": {"replicas": None}})
    with pytest.raises(Unavailable, match="replicas"):
        await (await opened()).status()


@pytest.mark.slow
async def test_a_throttled_read_has_a_retry_pause(place: FakePlace) -> None:
    place.fake.throttled = True
    async with Resources() as resources:
        spec = Kubernetes(name="llm", cluster=KubeCluster(kubeconfig=str(place.kubeconfig)))
        opening = AdapterContext(resources, SystemClock(), DEADLINE_S)
        actuator = await open_kubernetes(spec, opening, WorkloadName("chat"), PoolName("gpus"))
        with pytest.raises(Throttled) as caught:
            await actuator.status()
        assert caught.value.retry_after_s == pytest.approx(1.0, abs=0.5)  # reported, or left by the own budget
        assert any(result == "throttled" for _, _, result in resources.calls.results)


async def test_missing_permission_is_reported_by_name(place: FakePlace, opened: Open) -> None:
    actuator = await opened()
    observed = await settled(actuator, lambda s: s.ready == 2)
    place.fake.forbidden.add(("patch", "deployments/scale"))
    with pytest.raises(Misconfigured, match=r'cannot patch resource "deployments/scale" .*grant it in a Role'):
        await actuator.resize(3, observed)


async def test_rejected_size_is_misconfigured(place: FakePlace, opened: Open) -> None:
    actuator = await opened()
    with pytest.raises(Misconfigured, match="Invalid value: -1"):
        await actuator.resize(-1, await settled(actuator, lambda s: s.ready == 2))


async def test_without_watch_permission_each_size_is_read_individually(place: FakePlace, opened: Open) -> None:
    place.fake.forbidden |= {("list", "deployments"), ("watch", "deployments")}
    actuator = await opened()
    await actuator.resize(3, await settled(actuator, lambda s: s.ready == 2))
    assert (await settled(actuator, lambda s: s.desired == 3)).other_writer is None


@pytest.mark.parametrize("plural", ["horizontalpodautoscalers", "scaledobjects"])
async def test_resize_works_without_permission_to_list_autoscalers(place: FakePlace, opened: Open, plural: str) -> None:
    place.fake.forbidden.add(("list", plural))
    await place.add_hpa("by-cpu")
    actuator = await opened()
    observed = await settled(actuator, lambda s: s.ready == 2)
    assert observed.other_writer == (None if plural == "horizontalpodautoscalers" else "HPA by-cpu")
    await actuator.resize(3, observed)
    assert await place.size() == 3


async def test_hpas_are_listed_by_autoscaling_v1_without_v2(place: FakePlace, opened: Open) -> None:
    served = place.fake.kinds.pop(("autoscaling/v2", "horizontalpodautoscalers"))
    place.fake.kinds["autoscaling/v1", "horizontalpodautoscalers"] = served
    await place.add_hpa("by-cpu")
    assert (await settled(await opened(), lambda s: s.ready == 2)).other_writer == "HPA by-cpu"


async def test_last_list_of_autoscalers_is_kept_while_listing_fails(
    place: FakePlace, opened: Open, clock: ManualClock
) -> None:
    await place.add_hpa("by-cpu")
    actuator = await opened()
    await watched(place, actuator)
    clock.advance(61)
    await place.touch()  # the watch confirms the object
    await settled(actuator, lambda s: s.ready == 2)
    place.fake.throttled = True
    clock.advance(10)
    assert (await actuator.status()).value.other_writer == "HPA by-cpu"


async def test_a_deleted_object_is_misconfigured_until_it_returns(place: FakePlace, opened: Open) -> None:
    actuator = await opened()
    await watched(place, actuator)
    await place.fake.delete("deployments", "llm")
    error = await failure(actuator)
    assert isinstance(error, Misconfigured)
    assert str(error) == 'get deployments llm in namespace default: deployments "llm" not found'
    await place.fake.put("deployments", "llm", {"spec": {"replicas": 2}})
    assert (await settled(actuator, lambda s: s.desired == 2)).ready == 0


@pytest.mark.parametrize(
    ("version", "kind", "says"),
    [
        pytest.param("apps/v1", "Deploymnet", "apps/v1 has no kind Deploymnet", id="no-such-kind"),
        pytest.param("apps/v1", "DaemonSet", "daemonsets have no scale subresource", id="no-size"),
        pytest.param("none.example/v1", "Thing", "install its CRDs or operator", id="no-such-api"),
    ],
)
async def test_kind_without_a_scale_subresource_is_misconfigured(
    opened: Open, version: str, kind: str, says: str
) -> None:
    with pytest.raises(Misconfigured, match=says):
        await (await opened("llm", kind, version)).status()


async def test_kind_installed_after_the_start_is_resized(place: FakePlace, opened: Open) -> None:
    lws = place.fake.kinds.pop(("leaderworkerset.x-k8s.io/v1", "leaderworkersets"))
    actuator = await opened("llm", "LeaderWorkerSet", "leaderworkerset.x-k8s.io/v1")
    with pytest.raises(Misconfigured):
        await actuator.status()
    place.fake.kinds["leaderworkerset.x-k8s.io/v1", "leaderworkersets"] = lws
    await place.fake.put("leaderworkersets", "llm", {"spec": {"replicas": 2}})
    await actuator.resize(3, await settled(actuator, lambda s: s.desired == 2))
    assert await place.size("leaderworkersets") == 3


async def test_kind_served_under_another_plural_is_looked_up_again(place: FakePlace, opened: Open) -> None:
    actuator = await opened()
    await watched(place, actuator)
    place.fake.kinds["apps/v1", "workers"] = Served("apps/v1", "Deployment")
    del place.fake.kinds["apps/v1", "deployments"]
    with pytest.raises(Misconfigured):
        await actuator.resize(3, (await actuator.status()).value)
    with pytest.raises(Misconfigured, match="workers"):
        await actuator.resize(3, (await actuator.status()).value)


async def test_cluster_scoped_kind_is_resized(place: FakePlace, opened: Open) -> None:
    await place.fake.put("nodepools", "llm", {"spec": {"replicas": 2}, "status": {"replicas": 2}})
    actuator = await opened("llm", "NodePool", "karpenter.sh/v1")
    await actuator.resize(3, await settled(actuator, lambda s: (s.desired, s.ready) == (2, 2)))
    assert await place.size("nodepools") == 3


async def test_omitted_readiness_is_zero_if_another_object_reports_it(place: FakePlace, opened: Open) -> None:
    await place.add_engine({"replicas": 2})
    scaled = {"spec": {"predictor": {"min": 1}}, "status": {"readyReplicas": 1}}
    await place.fake.put("engines", "other", scaled)
    version = "serving.example.com/v1beta1"
    await settled(await opened("other", "Engine", version), lambda s: s.ready == 1)
    assert (await settled(await opened("llm", "Engine", version), lambda s: s.desired == 2)).ready == 0


# --- writes and their writers


async def test_write_with_a_lost_response_is_not_another_writer(
    place: FakePlace, opened: Open, clock: ManualClock
) -> None:
    actuator = await opened()
    observed = await settled(actuator, lambda s: s.ready == 2)
    place.proxy.fault = ProxyFault.CUT  # the request arrives, its response is lost
    with pytest.raises(Unavailable):
        await actuator.resize(5, observed)
    assert await place.size() == 5
    place.proxy.fault = ProxyFault.NONE
    await actuator.resize(4, observed)  # the size differs from the observed one, but by this process's own write
    assert await place.size() == 4
    clock.advance(60)
    assert (await settled(actuator, lambda s: s.desired == 4)).other_writer is None


@pytest.mark.parametrize("tracks", [True, False], ids=["managed-fields", "before-1.22"])
async def test_other_writer_is_named_from_managed_fields(place: FakePlace, opened: Open, tracks: bool) -> None:
    actuator = await opened()
    await settled(actuator, lambda s: s.ready == 2)
    place.fake.tracks_scale = tracks
    await place.fake.scale_as("a-script", "deployments", "llm", 8)
    status = await settled(actuator, lambda s: s.desired == 8)
    assert status.other_writer is not None
    assert status.other_writer.startswith(
        "a-script set it to 8 at 20" if tracks else "another writer set it to 8 at 20"
    )


# --- the session


async def test_pool_opens_while_the_api_server_is_down(place: FakePlace, opened: Open) -> None:
    place.proxy.fault = ProxyFault.RESET
    actuator = await opened()
    with pytest.raises(Unavailable):
        await actuator.status()
    place.proxy.fault = ProxyFault.NONE
    assert (await settled(actuator, lambda s: s.ready == 2)).desired == 2


async def test_rejected_credentials_are_read_again(place: FakePlace, opened: Open, clock: ManualClock) -> None:
    actuator = await opened()
    await watched(place, actuator)
    place.fake.tokens = {"another"}
    clock.advance(61)
    with pytest.raises(Misconfigured, match="rejects the daemon's credentials"):
        await actuator.status()
    write_kubeconfig(place.kubeconfig, place.proxy.port, "another")
    clock.advance(61)
    assert (await settled(actuator, lambda s: s.ready == 2)).desired == 2


async def test_rotated_service_account_token_is_read_again(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("old\n")
    (tmp_path / "ca.crt").write_text("")
    configuration = await in_pod({"KUBERNETES_SERVICE_HOST": "10.0.0.1"}, tmp_path)()
    assert configuration.host == "https://10.0.0.1:443"
    assert await configuration.get_api_key_with_prefix("BearerToken") == "Bearer old"
    (tmp_path / "new").write_text("new\n")
    (tmp_path / "new").replace(tmp_path / "token")  # as the kubelet does: a link to another file
    assert await configuration.get_api_key_with_prefix("BearerToken") == "Bearer new"
    (tmp_path / "token").unlink()
    assert await configuration.get_api_key_with_prefix("BearerToken") == "Bearer new"


@pytest.mark.parametrize(
    ("text", "context", "says"),
    [
        pytest.param(None, None, "does not exist", id="missing"),
        pytest.param("", None, "kubeconfig", id="empty"),
        pytest.param("{", None, "kubeconfig", id="no-yaml"),
        pytest.param(json.dumps({"clusters": [], "contexts": [], "users": []}), None, "current-context", id="none"),
        pytest.param("fine", "staging", "staging", id="no-such-context"),
    ],
)
async def test_invalid_kubeconfig_is_refused_at_startup(
    tmp_path: Path, clock: ManualClock, text: str | None, context: str | None, says: str
) -> None:
    path = tmp_path / "kubeconfig"
    if text == "fine":
        write_kubeconfig(path, 1)
    elif text is not None:
        path.write_text(text)
    spec = Kubernetes(name="llm", cluster=KubeCluster(kubeconfig=str(path), context=context))
    async with Resources() as resources:
        with pytest.raises(Misconfigured, match=says):
            await open_kubernetes(
                spec, AdapterContext(resources, clock, DEADLINE_S), WorkloadName("chat"), PoolName("gpus")
            )


async def test_cancelled_caller_does_not_cancel_the_shared_call() -> None:
    flights, go = Singleflight(), asyncio.Event()
    calls = 0

    async def call() -> int:
        nonlocal calls
        calls += 1
        await go.wait()
        return calls

    callers = [asyncio.create_task(flights.share("key", call)) for _ in range(3)]
    await asyncio.sleep(0)
    callers[0].cancel()
    go.set()
    assert await asyncio.gather(*callers[1:]) == [1, 1]
    assert await flights.share("key", call) == 2
    await flights.aclose()
