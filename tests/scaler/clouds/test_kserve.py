"""KServe's objects on a real control plane, with a controller that treats their children as KServe's does."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any, TypeAlias

import pytest

from policies.model import PoolStatus
from scaler.actuators.kserve import KServeResizer
from scaler.leases.fence import writing_under
from scaler.ports import Conflict, Misconfigured
from scaler.shared_resources import AdapterContext, Resources
from tests.contracts.actuator import settled
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.scaler.clouds.kserve_place import CLASS, LLM, KServePlace, kserve_place, owners
from tests.scaler.leases.test_fence import Lease
from tests.servers.control_plane import why_not
from tests.servers.kserve import GROUP, LWS
from tests.servers.kube_places import KEDA, target
from tests.servers.kube_real import shipped_rules

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is one"),
]
Open: TypeAlias = Callable[..., Awaitable[KServeResizer]]


@pytest.fixture
async def place() -> AsyncIterator[KServePlace]:
    async with kserve_place() as opened:
        yield opened


@pytest.fixture
async def opened(place: KServePlace) -> AsyncIterator[Open]:
    async with Resources() as resources:

        async def opening(**settings: Any) -> KServeResizer:
            return await place.open(AdapterContext(resources, ManualClock(), DEADLINE_S), **settings)

        yield opening


def serving(replicas: int) -> Callable[[PoolStatus], bool]:
    return lambda status: (status.desired, status.ready) == (replicas, replicas)


# --- where the size is written


async def test_external_class_is_sized_through_the_scale_of_its_deployment(place: KServePlace, opened: Open) -> None:
    await place.add_service(autoscalerClass="external")
    actuator = await opened()
    observed = await settled(actuator, serving(2))
    before = await place.parent()
    await actuator.resize(3, observed)
    status = await settled(actuator, lambda s: s.desired == 3)
    assert (status.ready, status.other_writer, status.shortfall) == (2, None, None)
    assert await place.kube.size("llm-predictor") == 3
    assert place.scale_writers() == {"forescale"}
    assert (await place.parent())["metadata"]["generation"] == before["metadata"]["generation"]


async def test_class_none_is_sized_by_its_minimum_and_maximum(place: KServePlace, opened: Open) -> None:
    await place.add_service(autoscalerClass="none")
    actuator = await opened()
    with writing_under(Lease(), 7, 1.0):
        await actuator.resize(1, await settled(actuator, serving(2)))
    status = await settled(actuator, serving(1))
    assert status.other_writer is None
    parent = await place.parent()
    predictor = parent["spec"]["predictor"]
    assert (predictor["minReplicas"], predictor["maxReplicas"]) == (1, 1)
    assert predictor["model"] == {"modelFormat": {"name": "huggingface"}}
    assert "forescale-epoch-7" in owners(parent, "f:predictor", "f:minReplicas")
    assert place.scale_writers() == set()


async def test_decode_and_prefill_replicas_are_sized_independently(place: KServePlace, opened: Open) -> None:
    place.kube.nodes.ready = None
    await place.add_llm_service(replicas=2, prefill={"replicas": 1})
    decode, prefill = await opened(**LLM), await opened(component="prefill", **LLM)
    await decode.resize(3, await settled(decode, serving(2)))
    await prefill.resize(2, await settled(prefill, serving(1)))
    assert (await settled(decode, serving(3))).other_writer is None
    assert (await settled(prefill, serving(2))).other_writer is None
    spec = (await place.parent(llm=True))["spec"]
    assert (spec["replicas"], spec["prefill"]["replicas"]) == (3, 2)


async def test_llm_service_without_replicas_is_sized_through_its_child(place: KServePlace, opened: Open) -> None:
    place.kube.nodes.ready = None
    await place.add_llm_service()
    actuator = await opened(**LLM)
    await actuator.resize(3, await settled(actuator, serving(1)))
    assert (await settled(actuator, serving(3))).other_writer is None
    assert "replicas" not in (await place.parent(llm=True))["spec"]


async def test_change_of_the_writer_is_followed_without_a_restart(place: KServePlace, opened: Open) -> None:
    await place.add_llm_service()
    actuator = await opened(**LLM)
    await actuator.resize(2, await settled(actuator, serving(1)))
    await settled(actuator, serving(2))
    await place.edit({"replicas": 2}, llm=True)
    version = (await place.parent(llm=True))["metadata"]["resourceVersion"]
    await actuator.resize(1, await settled(actuator, lambda s: s.version >= version))
    assert (await settled(actuator, serving(1))).other_writer is None
    assert (await place.parent(llm=True))["spec"]["replicas"] == 1


async def test_child_with_a_shortened_name_is_found_by_the_status(place: KServePlace, opened: Open) -> None:
    name = "a-model-with-a-name-so-long-that-its-child-has-a-hash-in-it"
    await place.add_llm_service(name, replicas=2)
    status = await settled(await opened(name=name, **LLM), serving(2))
    assert status.other_writer is None


async def test_multi_node_llm_service_counts_groups(place: KServePlace, opened: Open) -> None:
    await place.add_llm_service(replicas=2, worker={"containers": []})
    actuator = await opened(**LLM)
    await settled(actuator, lambda s: (s.desired, s.ready) == (2, 0))
    child = place.kube.path("leaderworkersets", "llm-kserve-mn", f"apis/{LWS}")
    await place.kube.call("PATCH", f"{child}/status", {"status": {"replicas": 2, "readyReplicas": 1}})
    await actuator.resize(3, await settled(actuator, lambda s: (s.desired, s.ready) == (2, 1)))
    assert (await place.parent(llm=True))["spec"]["replicas"] == 3


# --- other writers


@pytest.mark.parametrize(
    ("annotations", "autoscaler"), [({}, "hpa"), ({"autoscalerClass": "keda"}, "keda")], ids=["default", "keda"]
)
async def test_autoscaler_class_of_kserve_is_refused(
    place: KServePlace, opened: Open, annotations: dict[str, str], autoscaler: str
) -> None:
    await place.add_service(**annotations)
    actuator = await opened()
    observed = await settled(actuator, serving(2))
    refusal = f"KServe's autoscaler of class {autoscaler} sizes it; set its annotation {CLASS} to external"
    assert observed.other_writer == refusal
    assert await actuator.scale_out_refusals() == [f"InferenceService llm: {refusal}"]
    with pytest.raises(Misconfigured, match="set its annotation"):
        await actuator.resize(5, observed)
    assert await place.kube.size("llm-predictor") == 2
    await place.edit({}, annotations={CLASS: "external"})
    observed = await settled(actuator, lambda s: s.other_writer is None)
    await actuator.resize(3, observed)
    assert await place.kube.size("llm-predictor") == 3
    assert await actuator.scale_out_refusals() == []


async def test_scaling_of_an_llm_service_is_refused(place: KServePlace, opened: Open) -> None:
    await place.add_llm_service(scaling={"minReplicas": 1, "maxReplicas": 4}, prefill={"replicas": 1})
    decode, prefill = await opened(**LLM), await opened(component="prefill", **LLM)
    observed = await settled(decode, lambda s: s.desired == 1)
    assert observed.other_writer == "KServe's autoscaler sizes it; replace spec.scaling by replicas, or remove it"
    with pytest.raises(Misconfigured, match="LLMInferenceService llm: KServe's autoscaler sizes it"):
        await decode.resize(2, observed)
    assert (await settled(prefill, lambda s: s.desired == 1)).other_writer is None


async def test_hpa_of_the_child_is_reported_by_name(place: KServePlace, opened: Open) -> None:
    await place.add_service(autoscalerClass="none")
    hpa = {"maxReplicas": 9, "scaleTargetRef": {**target(), "name": "llm-predictor"}}
    path = place.kube.path("horizontalpodautoscalers", api="apis/autoscaling/v1")
    await place.kube.call("POST", path, {"metadata": {"name": "by-hand"}, "spec": hpa})
    assert (await settled(await opened(), serving(2))).other_writer == "HPA by-hand"


async def test_scaled_object_of_the_child_is_reported_by_name(place: KServePlace, opened: Open) -> None:
    await place.add_llm_service(replicas=2)
    await place.kube.kind("scaledobjects", "ScaledObject", KEDA, None)
    body = {"apiVersion": KEDA, "kind": "ScaledObject", "metadata": {"name": "by-queue"}}
    spec = {"scaleTargetRef": {"name": "llm-kserve"}}
    await place.kube.call("POST", place.kube.path("scaledobjects", api=f"apis/{KEDA}"), {**body, "spec": spec})
    assert (await settled(await opened(**LLM), serving(2))).other_writer == "KEDA ScaledObject by-queue"


async def test_knative_mode_is_misconfigured(place: KServePlace, opened: Open) -> None:
    await place.add_service(deploymentMode="Knative", autoscalerClass="external")
    with pytest.raises(Misconfigured, match="in the deployment mode Knative, another autoscaler sizes it"):
        await (await opened()).status()


async def test_write_after_another_writers_change_is_a_conflict(place: KServePlace, opened: Open) -> None:
    await place.add_service(autoscalerClass="none")
    actuator = await opened()
    observed = await settled(actuator, serving(2))
    await place.edit({"predictor": {"minReplicas": 4, "maxReplicas": 4}}, manager="argocd")
    with pytest.raises(Conflict, match=r"changed from 2 to 4: argocd set it to 4"):
        await actuator.resize(3, observed)
    status = await settled(actuator, lambda s: s.desired == 4)
    assert status.other_writer is not None
    assert status.other_writer.startswith("argocd set it to 4")
    assert (await place.parent())["spec"]["predictor"]["minReplicas"] == 4


async def test_write_after_a_change_of_the_status_is_accepted(place: KServePlace, opened: Open) -> None:
    await place.add_service(autoscalerClass="none")
    actuator = await opened()
    observed = await settled(actuator, serving(2))
    await place.edit({}, annotations={"team": "serving"})
    await actuator.resize(1, observed)
    assert (await settled(actuator, serving(1))).other_writer is None


async def test_controller_that_reverts_the_child_is_reported(place: KServePlace, opened: Open) -> None:
    """A base configuration may set replicas that the object does not show."""
    place.controller.base_replicas["llm"] = 2
    await place.add_llm_service()
    actuator = await opened(**LLM)
    await actuator.resize(4, await settled(actuator, serving(2)))
    status = await settled(actuator, lambda s: s.other_writer is not None)
    assert "set it to 2" in (status.other_writer or "")


# --- why replicas are not ready


async def test_stopped_service_has_no_replicas_and_is_refused(place: KServePlace, opened: Open) -> None:
    await place.add_service(autoscalerClass="external")
    actuator = await opened()
    observed = await settled(actuator, serving(2))
    await place.edit({}, annotations={f"{GROUP}/stop": "true"})
    status = await settled(actuator, serving(0))
    assert status.other_writer == f"it is stopped by its annotation {GROUP}/stop; remove the annotation"
    with pytest.raises(Misconfigured, match="it is stopped by its annotation"):
        await actuator.resize(3, observed)
    await place.edit({}, annotations={f"{GROUP}/stop": None})
    assert (await settled(actuator, serving(2))).other_writer is None


async def test_model_that_cannot_be_loaded_is_one_shortfall(place: KServePlace, opened: Open) -> None:
    place.kube.nodes.ready = 1
    await place.add_service(autoscalerClass="external")
    actuator = await opened()
    await settled(actuator, lambda s: (s.desired, s.ready, s.failed) == (2, 1, 0))
    failure = {"reason": "ModelLoadFailed", "message": "CUDA out of memory\nat load", "time": "2026-11-30T12:34:56Z"}
    place.controller.model_failure["llm"] = failure
    status = await settled(actuator, lambda s: s.shortfall is not None)
    assert status.shortfall is not None
    assert (status.failed, status.pending) == (1, 0)
    assert status.shortfall.reason == "KServe reports ModelLoadFailed: CUDA out of memory at load"
    assert (await actuator.status()).value.shortfall == status.shortfall
    place.kube.nodes.ready = 2
    assert (await settled(actuator, serving(2))).shortfall is None


async def test_size_that_kserve_refuses_is_a_shortfall(place: KServePlace, opened: Open) -> None:
    await place.add_llm_service(replicas=2)
    actuator = await opened(**LLM)
    observed = await settled(actuator, serving(2))
    await place.controller.refuse("llm", "LLMInferenceServiceConfig base not found")
    await actuator.resize(5, observed)
    status = await settled(actuator, lambda s: s.shortfall is not None)
    assert status.shortfall is not None
    assert (status.desired, status.ready, status.failed) == (5, 2, 3)
    text = "KServe reports CombinePresetsFailed: LLMInferenceServiceConfig base not found"
    assert status.shortfall.reason == text
    place.controller.refused.clear()
    await settled(actuator, lambda s: (s.desired, s.failed) == (5, 0))


async def test_absent_child_is_reported_with_kserves_reason(place: KServePlace, opened: Open) -> None:
    place.controller.refused["llm"] = "LLMInferenceServiceConfig base not found"
    await place.add_llm_service(replicas=2)
    actuator = await opened(**LLM)
    await place.reported()
    with pytest.raises(Misconfigured, match=r"llm-kserve.* not found; KServe reports CombinePresetsFailed: .*base"):
        await actuator.status()


async def test_child_of_another_kind_is_misconfigured(place: KServePlace, opened: Open) -> None:
    place.controller.disaggregated.add("llm")
    await place.add_llm_service(replicas=2)
    actuator = await opened(**LLM)
    await place.reported()
    with pytest.raises(Misconfigured, match="its replicas are in a DisaggregatedSet"):
        await actuator.status()


async def test_absent_prefill_is_misconfigured(place: KServePlace, opened: Open) -> None:
    await place.add_llm_service(replicas=2)
    with pytest.raises(Misconfigured, match=r"LLMInferenceService llm has no spec\.prefill; set component: main"):
        await (await opened(component="prefill", **LLM)).status()


# --- permissions


async def test_shipped_role_permits_exactly_the_calls_on_kserves_kinds(place: KServePlace, opened: Open) -> None:
    await place.add_service(autoscalerClass="none")
    await place.add_llm_service(replicas=2)
    for settings in ({}, LLM):
        actuator = await opened(**settings)
        await actuator.resize(1, await settled(actuator, lambda s: s.desired == 2))
        assert not [permit for permit in await actuator.permits() if permit.granted is not True]
    expected = {(v, r) for rule in shipped_rules("kubernetes-kserve") for v in rule["verbs"] for r in rule["resources"]}
    seen: set[tuple[str, str]] = set()
    while seen != expected:
        await asyncio.sleep(0.5)
        place.kube.proxy.tear_down()  # the log lists a watch once it has ended
        await actuator.status()
        seen = {call for call in calls(place) if call[1] in {"inferenceservices", "llminferenceservices"}}
        assert seen <= expected


def calls(place: KServePlace) -> set[tuple[str, str]]:
    """Return verb and resource of each call of the scaler in the namespace."""
    return {
        (entry["verb"], entry["objectRef"]["resource"])
        for entry in place.kube.plane.audit_events()
        if entry["user"].get("username") == "scaler"
        and entry.get("objectRef", {}).get("namespace") == place.kube.namespace
    }


async def test_missing_permission_is_reported_without_a_write(place: KServePlace, opened: Open) -> None:
    await place.add_service(autoscalerClass="none")
    actuator = await opened()
    await settled(actuator, serving(2))
    where = f"in namespace {place.kube.namespace}"
    reading = [rule for rule in shipped_rules("kubernetes-kserve") if "patch" not in rule["verbs"]]
    await place.kube.permit(reading, "forescale-kserve")
    await place.kube.permitted("patch", f"{GROUP}/inferenceservices", granted=False)
    permits = {permit.action: permit.granted for permit in await actuator.permits()}
    assert permits[f"patch inferenceservices.{GROUP} {where}"] is False
    assert permits[f"list inferenceservices.{GROUP} {where}"] is True
    assert f"patch deployments/scale.apps {where}" not in permits
    await place.kube.permit([], "forescale-kserve")
    await place.kube.permitted("get", f"{GROUP}/inferenceservices", granted=False)
    permits = {permit.action: permit.granted for permit in await actuator.permits()}
    assert permits == {f"{verb} inferenceservices.{GROUP} {where}": False for verb in ("get", "list", "watch")}
