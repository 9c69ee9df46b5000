"""Groups of workloads: which backends may be other workloads, and what is refused with which place and remedy."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from policies.model import WorkloadName
from scaler.config.groups import member_problems
from scaler.config.load import load
from scaler.config.problems import ConfigError


def document(name: str, other: str, region: str = "eu-west-1") -> str:
    return f"""\
workload: {name}
group: chat
max_replicas: 8
sources:
  queue: {{kind: embedded}}
policies:
  depth: {{kind: queue_depth}}
pools:
  gpus: {{kind: kubernetes, name: {name}, region: {region}}}
routes:
  front:
    kind: envoy
    file: /routes/{name}.json
    admin_url: http://127.0.0.1:9901
    backends:
      home: {{pool: gpus}}
      away: {{workload: {other}}}
"""


EU, US = document("chat-eu", "chat-us"), document("chat-us", "chat-eu", "us-east-1")
SECOND = """\
  second:
    kind: envoy
    file: /routes/second.json
    admin_url: http://127.0.0.1:9902
    backends:
      home: {pool: gpus}
      away: {workload: chat-us}
"""


def write(folder: Path, eu: str, us: str) -> None:
    (folder / "eu.yaml").write_text(eu)
    (folder / "us.yaml").write_text(us)


def problems(folder: Path, eu: str = EU, us: str = US) -> list[str]:
    write(folder, eu, us)
    with pytest.raises(ConfigError) as caught:
        load([folder])
    return [str(problem).replace(f"{folder}/", "") for problem in caught.value.problems]


def test_members_name_one_another(tmp_path: Path) -> None:
    write(tmp_path, EU, US)
    specs = load([tmp_path]).workloads
    assert {str(name): workload.spec.group_key for name, workload in specs.items()} == {
        "chat-eu": "chat",
        "chat-us": "chat",
    }


@pytest.mark.parametrize(
    ("eu", "problem"),
    [
        (EU.replace("{workload: chat-us}", "{workload: chat-eu}"), 'eu.yaml:17: routes.front.backends.away.workload = "chat-eu": must be another workload (name a pool of this one with pool:)'),
        (EU.replace("group: chat\n", ""), 'eu.yaml:16: routes.front.backends.away.workload = "chat-us": needs a group (set group in both workloads)'),
        (EU.replace("group: chat\n", "group: llama\n"), 'eu.yaml:17: routes.front.backends.away.workload = "chat-us": must be in group llama, as this workload is (set group: llama in workload chat-us, in the same namespace)'),
        (EU.replace("{workload: chat-us}", "{workload: chat-usa}"), "eu.yaml:17: routes.front.backends.away.workload = \"chat-usa\": is not a workload of this configuration (did you mean 'chat-us'?)"),
        (EU.replace("{workload: chat-us}", "{workload: qwen}"), 'eu.yaml:17: routes.front.backends.away.workload = "qwen": is not a workload of this configuration (add it, or remove this backend)'),
        (EU.replace("group: chat", "group: Chat"), 'eu.yaml:2: group = "Chat": '),
        (EU.replace("{workload: chat-us}", "{workload: Chat}"), 'eu.yaml:17: routes.front.backends.away.workload = "Chat": '),
        (EU.replace("{workload: chat-us}", "{workload: chat-us, pool: gpus}"), "eu.yaml:17: routes.front.backends.away: must have either pool, workload or provider"),
        (EU + "      more: {workload: chat-us}\n", "eu.yaml:15: routes.front.backends: must not name a workload twice"),
        (EU.replace("      home: {pool: gpus}\n", ""), "eu.yaml:15: routes.front.backends: must name at least one pool"),
        (EU + SECOND, "eu.yaml:22: routes.second.backends: must not have workloads in backends, which route front has: one gateway measures the demand (move these backends to that route)"),
    ],
)  # fmt: skip
def test_wrong_member_is_refused_at_its_place(tmp_path: Path, eu: str, problem: str) -> None:
    found = problems(tmp_path, eu)
    assert any(each.startswith(problem) for each in found), found


@pytest.mark.parametrize(
    ("us", "where"),
    [("us-east-1", "us-east-1"), ("null", "an unknown region")],
)
def test_prompts_do_not_leave_the_allowed_regions_by_another_workload(tmp_path: Path, us: str, where: str) -> None:
    eu, other = f"{EU}regions: [eu-*, ch]\n", US.replace("region: us-east-1", f"region: {us}")
    rule = f"has pool gpus in {where}, and regions allows only eu-*, ch (remove this backend, or allow the region in regions)"
    assert problems(tmp_path, eu, other) == [f'eu.yaml:17: routes.front.backends.away.workload = "chat-us": {rule}']
    write(tmp_path, eu, other.replace(f"region: {us}", "region: ch"))
    assert len(load([tmp_path]).workloads) == 2


def test_members_of_another_namespace_are_of_another_group(tmp_path: Path) -> None:
    write(tmp_path, document("a.chat", "b.chat"), document("b.chat", "a.chat"))
    with pytest.raises(ConfigError, match="must be in group chat, as this workload is"):
        load([tmp_path])
    write(tmp_path, document("a.chat", "a.chat-us"), document("a.chat-us", "a.chat"))
    specs = [workload.spec for workload in load([tmp_path]).workloads.values()]
    assert {spec.group_key for spec in specs} == {"a.chat"}


def test_member_that_left_the_configuration_is_a_problem_of_each_that_names_it(tmp_path: Path) -> None:
    write(tmp_path, EU, US)
    specs = {name: workload.spec for name, workload in load([tmp_path]).workloads.items()}
    eu = specs[WorkloadName("chat-eu")]
    assert list(member_problems(eu, specs)) == []
    place = ("routes", "front", "backends", "away", "workload")
    assert [found[0] for found in member_problems(eu, {WorkloadName("chat-eu"): eu})] == [place]
    alone = dataclasses.replace(eu, group=None)
    assert [found[1] for found in member_problems(eu, {WorkloadName("chat-us"): alone})] == [
        "must be in group chat, as this workload is"
    ]


def test_gateway_without_traffic_cannot_share_with_a_workload(tmp_path: Path) -> None:
    litellm = EU.replace("kind: envoy", "kind: litellm\n    url: http://127.0.0.1:4000\n    model_group: chat")
    litellm = litellm.replace("    file: /routes/chat-eu.json\n    admin_url: http://127.0.0.1:9901\n", "")
    rule = "routes.front.traffic: must be set with a workload in backends, so that the demand is measured"
    found = problems(tmp_path, litellm)
    assert any(rule in each for each in found), found
