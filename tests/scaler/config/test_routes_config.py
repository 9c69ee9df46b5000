"""Configuration of routes: what is refused, and with which remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from policies.model.names import PoolName, RouteName
from scaler.clouds.kubernetes.cluster import KubeCluster
from scaler.config.load import load
from scaler.config.problems import ConfigError
from scaler.config.tenancy import namespace_problems

GOOD = """\
workload: llm
max_replicas: 8
sources:
  queue: {kind: embedded}
policies:
  depth: {kind: queue_depth}
pools:
  gpus: {kind: embedded}
  spare: {kind: embedded, tier: slept, serves: gpus, lead_time_s: 1}
routes:
  chat:
    kind: envoy
    file: /routes/chat.json
    admin_url: http://127.0.0.1:9901
    allow_external: true
    overflow: {max_usd_per_hour: 5}
    backends:
      gpus: {pool: gpus}
      openai: {provider: {usd_per_million_input_tokens: 0.2, usd_per_million_output_tokens: 0.6}}
"""


def problems(tmp_path: Path, old: str, new: str) -> list[str]:
    file = tmp_path / "w.yaml"
    file.write_text(GOOD.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load([file])
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("{pool: gpus}", "{pool: gpu}"), "w.yaml:18: routes.chat.backends.gpus.pool = \"gpu\": is not in pools (did you mean 'gpus'?)"),
        (("{pool: gpus}", "{pool: spare}"), 'routes.chat.backends.gpus.pool = "spare": has the tier slept, and must serve'),
        (("{pool: gpus}", "{}"), "routes.chat.backends.gpus: must have either pool, workload or provider"),
        (("max_usd_per_hour: 5", "max_share: 0.5"), "routes.chat.overflow: needs max_usd_per_hour with allow_external: true"),
        (("kind: envoy", "kind: envoi"), "routes.chat.kind = \"envoi\": must be one of ai_gateway_route, alb, dns, envoy, http_route, kserve_group, litellm (did you mean 'envoy'?)"),
        (("gpus: {pool: gpus}", "GPUs: {pool: gpus}"), "routes.chat.backends: has the name 'GPUs'; a name must be at most 63"),
        (("file: /routes/chat.json", "file: chat.json"), "must be an absolute path of a file"),
        (("file: /", "clusters: {gpu: vllm}\n    file: /"), "routes.chat.clusters: names backend 'gpu', which is not in backends"),
        (("file: /", "clusters: {gpus: openai}\n    file: /"), "routes.chat.clusters: must not give two backends the same cluster"),
        (("file: /", "prefer: distance\n    file: /"), 'routes.chat.prefer = "distance": must be one of cost, latency, locality'),
        (("file: /", "prefer: locality\n    file: /"), "routes.chat.region: must be set with prefer: locality; name the region of the gateway"),
        (("file: /", "region: eu-west-1\n    file: /"), "routes.chat.region = \"eu-west-1\": has no effect without prefer: locality; set that too, or remove region"),
        (("file: /", "prefer: locality\n    region: eu-west-1\n    file: /"), "routes.chat.prefer = \"locality\": has no effect: no pool and no provider of the route has a region (set region of its pools and providers, or remove prefer)"),
        (("file: /", "prefer: latency\n    file: /"), "routes.chat.prefer = \"latency\": has no effect with fewer than two providers, which latency orders; remove it"),
    ],
)  # fmt: skip
def test_wrong_route_is_refused(tmp_path: Path, change: tuple[str, str], problem: str) -> None:
    assert any(problem in found for found in problems(tmp_path, *change)), problems(tmp_path, *change)


EU = (
    GOOD.replace("gpus: {kind: embedded}", "gpus: {kind: embedded, region: eu-west-1}")
    .replace("tier: slept", "region: eu-west-1, tier: slept")
    .replace("output_tokens: 0.6", "output_tokens: 0.6, region: eu-north")
)


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("gpus: {kind: embedded, region: eu-west-1}", "gpus: {kind: embedded}", "pools.gpus.region: must be set, because regions allows only eu-*, ch"),
        ("gpus: {kind: embedded, region: eu-west-1}", "gpus: {kind: embedded, region: us-east-1}", 'pools.gpus.region = "us-east-1": must be in regions, which allows only eu-*, ch (remove this pool, or allow its region in regions)'),
        ("region: eu-north", "region: us", 'routes.chat.backends.openai.provider.region = "us": must be in regions, which allows only eu-*, ch (remove this provider'),
        (", region: eu-north", "", "routes.chat.backends.openai.provider.region: must be set"),
    ],
)  # fmt: skip
def test_prompts_stay_in_the_allowed_regions(tmp_path: Path, old: str, new: str, problem: str) -> None:
    file = tmp_path / "w.yaml"
    good = f"regions: [eu-*, ch]\n{EU}"
    file.write_text(good)
    (workload,) = load([file]).workloads.values()
    assert workload.spec.pools[PoolName("gpus")].region == "eu-west-1"
    file.write_text(good.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load([file])
    assert any(problem in str(found) for found in caught.value.problems), caught.value.problems


GROUP = GOOD.replace("kind: envoy", "kind: kserve_group").replace("admin_url: http://127.0.0.1:9901", "group: chat")


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("", "routes.chat.backends: must be pools: 'openai' is a provider"),
        ("members: {gpu: a}", "routes.chat.members: names backend 'gpu', which is not in backends"),
        ("members: {gpus: ../pods/a}", "routes.chat.members: has the name '../pods/a' for gpus; a name must be"),
        ("members: {gpus: openai}", "routes.chat.members: must not give two backends the same LLMInferenceService"),
    ],
)
def test_wrong_group_is_refused(tmp_path: Path, settings: str, problem: str) -> None:
    file = tmp_path / "w.yaml"
    file.write_text(GROUP.replace("file: /routes/chat.json", settings))
    with pytest.raises(ConfigError) as caught:
        load([file])
    assert any(problem in str(found) for found in caught.value.problems), caught.value.problems


def test_two_routes_must_not_write_one_file(tmp_path: Path) -> None:
    route = GOOD.partition("routes:\n")[2]
    found = problems(tmp_path, route, route + route.replace("  chat:", "  other:"))
    assert any("routes.other" in problem and "remove one of the two routes" in problem for problem in found), found


def test_route_of_an_untrusted_namespace_is_refused(tmp_path: Path) -> None:
    (tmp_path / "w.yaml").write_text(GOOD)
    spec = next(iter(load([tmp_path]).workloads.values())).spec
    assert spec.routes[RouteName("chat")].allow_external
    rules = {place: rule for place, rule, _ in namespace_problems(spec, "team", KubeCluster())}
    assert "must not be envoy in namespace team" in rules["routes", "chat", "kind"]


def gateway(tmp_path: Path, settings: str, kind: str = "http_route") -> Path:
    """Write a workload with such a route, whose settings are added to those of GOOD."""
    own = f"kind: {kind}\n    name: chat\n    namespace: llm\n    {settings}"
    old = "kind: envoy\n    file: /routes/chat.json\n    admin_url: http://127.0.0.1:9901"
    file = tmp_path / "w.yaml"
    file.write_text(GOOD.replace(old, own))
    return file


TRAFFIC = "traffic: {urls: ['http://envoy:19001/stats/prometheus']}"


@pytest.mark.parametrize(
    ("settings", "problem"),
    [
        ("rule_index: 0", "chat.traffic: must be set with allow_external: true, so that the demand is measured"),
        (f"zero_replicas: reject\n    {TRAFFIC}", "chat.zero_replicas = \"reject\": must be hold or overflow: HTTPRoutes cannot"),
        (f"refs: {{gpu: vllm}}\n    {TRAFFIC}", "chat.refs: names backend 'gpu', which is not in backends"),
        (f"refs: {{gpus: openai}}\n    {TRAFFIC}", "chat.refs: must not give two backends the same backendRef"),
        ("traffic: {urls: ['http://envoy:1/s'], clusters: {gpu: a}}", "chat.traffic: names backend 'gpu', which is not"),
        ("traffic: {urls: ['http://envoy:1/s'], clusters: {gpus: openai}}", "chat.traffic: must not give two backends the same"),
        ("traffic: {urls: ['http://envoy:1/s'], clusters: {gpus: a}, shared_cluster: b}", "chat.traffic.shared_cluster = \"b\": and clusters"),
        ("prefer: locality\n    region: eu-west-1", "chat.traffic: must be set with prefer: locality, so that the demand is measured"),
        ("prefer: latency\n    traffic: {urls: ['http://envoy:1/s'], shared_cluster: b}", "chat.prefer = \"latency\": must not be latency with traffic.shared_cluster"),
        ("traffic: {}", "chat.traffic.urls: and service exclude each other: set exactly one"),
        (f"rule: llama\n    rule_index: 1\n    {TRAFFIC}", "chat.rule = \"llama\": and rule_index exclude each other"),
    ],
)  # fmt: skip
def test_wrong_gateway_route_is_refused(tmp_path: Path, settings: str, problem: str) -> None:
    with pytest.raises(ConfigError) as caught:
        load([gateway(tmp_path, settings)])
    assert any(problem in str(found) for found in caught.value.problems), caught.value.problems


def test_routes_may_share_an_object_but_not_a_rule(tmp_path: Path) -> None:
    file = gateway(tmp_path, f"rule: llama\n    {TRAFFIC}")
    first = file.read_text()
    route = first.partition("routes:\n")[2].replace("  chat:", "  other:")
    file.write_text(first + route.replace("rule: llama", "rule: qwen"))
    assert len(next(iter(load([tmp_path]).workloads.values())).spec.routes) == 2
    file.write_text(first + route)
    with pytest.raises(ConfigError, match="remove one of the two routes"):
        load([tmp_path])


def test_kinds_of_gateway_routes_are_accepted(tmp_path: Path) -> None:
    for kind, version in (("http_route", ""), ("ai_gateway_route", "version: v1alpha1")):
        load([gateway(tmp_path, f"{TRAFFIC}\n    {version}", kind)])
