"""Configuration of routes on AWS: what is refused, and with which remedy."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaler.config.load import load
from scaler.config.problems import ConfigError

RULE = "arn:aws:elasticloadbalancing:us-east-1:123456789012:listener-rule/app/llm/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee"
HEAD = """\
workload: llm
max_replicas: 8
sources:
  queue: {kind: embedded}
policies:
  depth: {kind: queue_depth}
pools:
  gpus: {kind: embedded}
  west: {kind: embedded}
routes:
  chat:
"""
PROVIDER = "{provider: {usd_per_million_input_tokens: 0.2, usd_per_million_output_tokens: 0.6}}"
ALB = f"""\
{HEAD}    kind: alb
    rule: {RULE}
    backends: {{gpus: {{pool: gpus}}, west: {{pool: west}}, openai: {PROVIDER}}}
    allow_external: true
    overflow: {{max_usd_per_hour: 5}}
"""
DNS = f"""\
{HEAD}    kind: dns
    zone: Z0123456789ABCDEFGHIJ
    name: chat.example.com
    backends: {{gpus: {{pool: gpus}}, west: {{pool: west}}}}
"""


def problems(tmp_path: Path, good: str, old: str, new: str) -> list[str]:
    file = tmp_path / "w.yaml"
    file.write_text(good)
    load([file])
    assert good.count(old) == 1
    file.write_text(good.replace(old, new))
    with pytest.raises(ConfigError) as caught:
        load([file])
    return [str(problem).replace(f"{tmp_path}/", "") for problem in caught.value.problems]


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        (RULE, "vllm", 'routes.chat.rule = "vllm": must be the ARN of a rule of an Application Load Balancer\'s listener'),
        (RULE, RULE.replace("listener-rule", "listener"), "must be the ARN of a rule of an Application Load Balancer"),
        ("kind: alb", "kind: alb\n    zero_replicas: reject", 'routes.chat.zero_replicas = "reject": must be hold or overflow: weights cannot answer 503'),
        ("kind: alb", "kind: alb\n    account: {region: eu-west-1}", "routes.chat.account: has the region eu-west-1, and the rule is in us-east-1; remove the region"),
        ("kind: alb", "kind: alb\n    target_groups: {gpu: vllm}", "routes.chat.target_groups: names backend 'gpu', which is not in backends"),
        ("kind: alb", "kind: alb\n    target_groups: {gpus: west}", "routes.chat.target_groups: must not give two backends the same target group"),
        ("kind: alb", "kind: alb\n    eject_s: 30", "routes.chat.eject_s = 30: must be greater than or equal to 180"),
        ("backends: {", "backends: {" + "".join(f"p{i}: {PROVIDER}, " for i in range(3)), "routes.chat.backends: must not have more than 5 entries: a rule forwards to at most 5 target groups"),
        ("overflow: {max_usd_per_hour: 5}", "overflow: {}", "routes.chat.overflow: needs max_usd_per_hour with allow_external: true"),
    ],
)  # fmt: skip
def test_wrong_listener_rule_is_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    found = problems(tmp_path, ALB, old, new)
    assert any(problem in text for text in found), found


@pytest.mark.parametrize(
    ("old", "new", "problem"),
    [
        ("zone: Z0123456789ABCDEFGHIJ", "zone: example.com", 'routes.chat.zone = "example.com": must be at most 32 capital letters and digits'),
        ("name: chat.example.com", "name: \'*.example.com\'", 'routes.chat.name = (not shown): must be a name without a wildcard, such as chat.example.com'),
        ("name: chat.example.com", "name: chat", 'routes.chat.name = "chat": must be a name without a wildcard'),
        ("kind: dns", "kind: dns\n    record_type: TXT", 'routes.chat.record_type = "TXT": must be one of A, AAAA, CNAME'),
        ("kind: dns", "kind: dns\n    zero_replicas: reject", 'routes.chat.zero_replicas = "reject": must be hold or overflow: weights cannot answer 503'),
        ("kind: dns", "kind: dns\n    prefer: locality\n    region: eu-west-1", 'routes.chat.prefer = "locality": must not be locality: DNS counts no requests'),
        ("kind: dns", "kind: dns\n    records: {gpu: us-east-1}", "routes.chat.records: names backend 'gpu', which is not in backends"),
        ("kind: dns", "kind: dns\n    records: {gpus: west}", "routes.chat.records: must not give two backends the same record"),
        ("west: {pool: west}", f"openai: {PROVIDER}", "routes.chat.backends: must not have the provider 'openai': a client's TLS and key do not fit it, and DNS counts no requests; use alb or envoy"),
        ("west: {pool: west}", "west: {pool: gpus}", "routes.chat.backends: must not name a pool twice"),
    ],
)  # fmt: skip
def test_wrong_weighted_records_are_refused(tmp_path: Path, old: str, new: str, problem: str) -> None:
    found = problems(tmp_path, DNS, old, new)
    assert any(problem in text for text in found), found
