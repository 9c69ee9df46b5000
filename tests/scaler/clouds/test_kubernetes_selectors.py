"""Names, labels and selectors of pods and nodes."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from scaler.clouds.kubernetes import session
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.clouds.kubernetes.nodes import machine_of, market_of
from scaler.clouds.kubernetes.pods import pods
from scaler.clouds.kubernetes.selectors import Selector, Term, parse_label_selector, parse_selector_text
from scaler.shared_resources import AdapterContext, Resources
from tests.factories import DEADLINE_S
from tests.fakes import ManualClock
from tests.servers.kube_fake import kube_fake, write_kubeconfig


@pytest.mark.parametrize(
    ("labels", "market"),
    [
        ({}, "on_demand"),
        ({"karpenter.sh/capacity-type": "spot"}, "spot"),
        ({"karpenter.sh/capacity-type": "reserved"}, "reserved"),
        ({"eks.amazonaws.com/capacityType": "SPOT"}, "spot"),
        ({"cloud.google.com/gke-spot": "true"}, "spot"),
        ({"cloud.google.com/gke-spot": "false"}, "on_demand"),
        ({"kubernetes.azure.com/scalesetpriority": "spot"}, "spot"),
    ],
)
def test_node_market_is_read_from_each_cloud_s_labels(labels: dict[str, str], market: str) -> None:
    assert market_of(labels) == market


@pytest.mark.parametrize(
    ("provider_id", "machine"),
    [
        ("aws:///us-west-2a/i-0abc", "i-0abc"),
        ("gce://project/us-central1-a/gke-pool-1", "gke-pool-1"),
        ("azure:///subscriptions/S/virtualMachines/0", "/subscriptions/s/virtualmachines/0"),
        ("", ""),
    ],
)
def test_machine_name_is_parsed_from_the_provider_id(provider_id: str, machine: str) -> None:
    assert machine_of(provider_id) == machine


IN = Term("a", "In", frozenset({"1", "2"}))


@pytest.mark.parametrize(
    ("text", "terms"),
    [
        ("a=1", [Term("a", "In", frozenset({"1"}))]),
        ("a==1,b!=2", [Term("a", "In", frozenset({"1"})), Term("b", "NotIn", frozenset({"2"}))]),
        ("a in (1, 2)", [IN]),
        ("a notin (1,2),!x/y", [Term("a", "NotIn", frozenset({"1", "2"})), Term("x/y", "DoesNotExist")]),
        ("x.io/y,a in (1,2)", [Term("x.io/y", "Exists"), IN]),
        ("", []),
    ],
)
def test_selector_text_is_parsed(text: str, terms: list[Term]) -> None:
    assert parse_selector_text(text) == Selector(tuple(terms))


@pytest.mark.parametrize("text", ["(", "a in 1", "a=1=2", ",a"])
def test_an_invalid_selector_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a label selector"):
        parse_selector_text(text)


@pytest.mark.parametrize(
    ("labels", "selected"),
    [
        ({"app": "llm", "tier": "gpu"}, True),
        ({"app": "llm", "tier": "cpu"}, False),
        ({"app": "llm", "tier": "gpu", "canary": ""}, False),
        ({"tier": "gpu"}, False),
    ],
)
def test_selector_matches_only_if_all_terms_match(labels: dict[str, str], selected: bool) -> None:
    expressions = [
        {"key": "tier", "operator": "In", "values": ["gpu", "tpu"]},
        {"key": "canary", "operator": "DoesNotExist"},
    ]
    assert (
        parse_label_selector({"matchLabels": {"app": "llm"}, "matchExpressions": expressions}).matches(labels)
        is selected
    )


def test_empty_selector_matches_nothing() -> None:
    assert not parse_label_selector({}).matches({"app": "llm"})


@pytest.mark.parametrize("seed", range(5))
async def test_selectors_follow_pods_that_are_added_and_removed(tmp_path: Path, seed: int) -> None:
    rng = random.Random(seed)  # noqa: S311 - a test's own rng
    selectors = [
        parse_selector_text(text) for text in ("app=a", "app=b", "app=a,tier in (x,y)", "tier", "!tier", "app in (a,b)")
    ]
    async with kube_fake() as fake, Resources() as resources:
        context = AdapterContext(resources, ManualClock(), DEADLINE_S)
        cluster = KubeCluster(kubeconfig=str(write_kubeconfig(tmp_path / "kubeconfig", fake.port)))
        followed = await pods(context, await session.session(context, cluster), cluster, "nowhere")
        present: dict[str, dict[str, str]] = {}
        for version in range(300):
            name = f"p{rng.randrange(12)}"
            labels = {k: rng.choice("abxy") for k in ("app", "tier") if rng.random() < 0.7}
            metadata = {"name": name, "uid": name, "resourceVersion": str(version), "labels": labels}
            gone = rng.random() < 0.3
            followed.apply_change("DELETED" if gone else "MODIFIED", {"metadata": metadata}, 0.0)
            if gone:
                present.pop(name, None)
            else:
                present[name] = labels
            selector = rng.choice(selectors)
            assert followed.select(selector).keys() == {n for n, have in present.items() if selector.matches(have)}
