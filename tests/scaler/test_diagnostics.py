"""``check --live`` and ``doctor``: their reads and output, and that they write nothing."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from policies.history.pool_memory import PoolMemories
from policies.model import Fresh, PoolPart, PoolStatus, Shortfall, WorkloadName
from scaler.cli import main
from scaler.clock import SystemClock
from scaler.commands.check import result
from scaler.commands.doctor import lines, permits
from scaler.config.load import Config, load
from scaler.diagnostics import AdapterCheck, check_adapters, check_settings
from scaler.ports import Permit
from tests.servers.aws import KEYS, REGION, Aws, aws, isolate
from tests.servers.aws_fault import FORBIDDEN, Front, front
from tests.servers.exporter import Engine, exporter, vllm
from tests.servers.fleet import growing
from tests.servers.kube_fake import Served, kube_fake, write_kubeconfig


@pytest.fixture
async def cloud(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> AsyncIterator[tuple[Aws, Front]]:
    isolate(monkeypatch, tmp_path, **KEYS)
    async with aws() as aws_server, front(aws_server.url) as proxy:
        yield aws_server, proxy


def load_config(tmp_path: Path, queue: str, url: str) -> Config:
    """Configure two queues, one of which does not exist, and a cluster that does not exist."""
    account = {"region": REGION, "endpoint_url": url}
    document: dict[str, Any] = {
        "workload": "llm",
        "max_replicas": 4,
        "deadline_s": 10,
        "sources": {
            "there": {"kind": "sqs", "queue_url": queue, "account": account},
            "gone": {"kind": "sqs", "queue_url": queue + "-gone", "account": account},
        },
        "policies": {"depth": {"kind": "queue_depth", "source": "there"}},
        "pools": {"main": {"kind": "kubernetes", "name": "llm", "cluster": {"kubeconfig": str(tmp_path / "none")}}},
    }
    file = tmp_path / "llm.yaml"
    file.write_text(json.dumps(document))
    return load([file])


async def test_failing_adapter_does_not_hide_the_other_checks(cloud: tuple[Aws, Front], tmp_path: Path) -> None:
    aws_server, proxy = cloud
    queue = await aws_server.queue("prompts")
    await aws_server.send(queue, 3)
    by_name = {
        check.name: check for check in await check_adapters(load_config(tmp_path, queue, proxy.url), SystemClock())
    }
    assert isinstance(visible := by_name["there"].readings["visible"], Fresh)
    assert visible.value == 3
    assert by_name["there"].ok
    assert "QueueDoesNotExist" in by_name["gone"].error or "NonExistentQueue" in by_name["gone"].error
    assert "does not exist" in by_name["main"].error
    assert not by_name["gone"].ok
    assert not by_name["main"].ok


@pytest.mark.slow
async def test_late_share_is_measured_against_the_workloads_slo(tmp_path: Path) -> None:
    async with exporter({"a": Engine(growing(vllm({})))}) as pages:
        document = {
            "workload": "llm",
            "max_replicas": 4,
            "slo": {"ttft_s": 2.5},
            "sources": {
                "engines": {"kind": "scrape", "preset": "vllm", "urls": [pages.url("a")], "read": ["ttft_late_share"]}
            },
            "policies": {"late": {"kind": "metric", "quantity": "ttft_late_share", "target": 0.01}},
            "pools": {"main": {"kind": "kubernetes", "name": "llm", "cluster": {"kubeconfig": str(tmp_path / "none")}}},
        }
        (tmp_path / "llm.yaml").write_text(json.dumps(document))
        engines, _ = await check_adapters(load([tmp_path / "llm.yaml"]), SystemClock())
    assert isinstance(late := engines.readings["ttft_late_share"], Fresh)
    assert late.value == pytest.approx((2131 - 1587) / 2131)


async def test_checks_call_only_read_operations(cloud: tuple[Aws, Front], tmp_path: Path) -> None:
    aws_server, proxy = cloud
    await check_adapters(load_config(tmp_path, await aws_server.queue("prompts"), proxy.url), SystemClock())
    assert {a.operation for a in proxy.requests} <= {
        "GetQueueAttributes",
        "SimulatePrincipalPolicy",
        "GetCallerIdentity",
    }


async def test_missing_permission_is_reported_with_its_remedy(cloud: tuple[Aws, Front], tmp_path: Path) -> None:
    aws_server, proxy = cloud
    config = load_config(tmp_path, await aws_server.queue("prompts"), proxy.url)
    proxy.faults["sqs"] = FORBIDDEN["json"]
    by_name = {check.name: check for check in await check_adapters(config, SystemClock())}
    assert "AccessDenied" in by_name["there"].error
    assert "needs a fix" in by_name["there"].remedy


@pytest.mark.slow
def test_checks_pass_in_the_embedded_world(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    quickstart = str(Path("config/quickstart").resolve())
    monkeypatch.chdir(tmp_path)  # a folder without a journal
    assert main(["check", "--live", quickstart]) == 0
    out = capsys.readouterr().out
    assert "ok   chat pool gpus (embedded)" in out
    assert main(["doctor", "--json", quickstart]) == 0
    checks = json.loads(capsys.readouterr().out)
    assert all(check["well"] for check in checks)
    assert {check["lead_time_s"] for check in checks if "pool" in check} == {120.0}


@pytest.mark.parametrize(
    ("granted", "out"),
    [
        (True, "permitted: eks:UpdateNodegroupConfig"),
        (False, "NOT PERMITTED: eks:UpdateNodegroupConfig: add it to the role"),
        (None, "permission unknown: eks:UpdateNodegroupConfig: add it to the role"),
    ],
)
def test_permission_text_distinguishes_granted_denied_and_unknown(granted: bool | None, out: str) -> None:
    permit = Permit("eks:UpdateNodegroupConfig", granted, "" if granted else "add it to the role")
    check = AdapterCheck(WorkloadName("llm"), "pool", "spot", "eks_node_group", permits=(permit,))
    assert list(permits(check)) == [out]
    assert check.ok is (granted is not False)


def test_refused_scale_out_is_shown_and_fails_the_check() -> None:
    check = AdapterCheck(WorkloadName("llm"), "pool", "gpus", "asg", refusals=("group llm has no zone x",))
    assert list(permits(check)) == ["SCALE-OUT REFUSED: group llm has no zone x"]
    assert not check.ok


@pytest.mark.parametrize(
    ("remedy", "text"), [("check the name", "llm is missing (check the name)"), ("", "llm is missing")]
)
def test_check_shows_an_error_with_its_remedy(remedy: str, text: str) -> None:
    check = AdapterCheck(WorkloadName("llm"), "pool", "spot", "kubernetes", error="llm is missing", remedy=remedy)
    assert result(check) == text


def test_pool_status_is_reported_by_zone_with_its_shortfall() -> None:
    config = load([Path("config/example")])
    (name,) = config.workloads
    pool = next(iter(config.workloads[name].spec.pools))
    parts = (PoolPart("a", "spot", 2, 1, 1), PoolPart("b", "on_demand", 1))
    status = PoolStatus(
        6,
        3,
        other_writer="an HPA",
        interruption_pending=1,
        failed=2,
        shortfall=Shortfall(0, "no p5 in a"),
        reserved=4,
        parts=parts,
    )
    check = AdapterCheck(name, "pool", pool, "kubernetes", at=10.0, status=Fresh(status, 8.0))
    out = "\n".join(lines([check], config, {name: PoolMemories()}))
    assert "6 desired, 3 ready, 1 pending, 1 interruption pending, 2 failed; 4 reserved; 2 s old" in out
    assert "a, spot: 2 ready, 1 pending, 1 interruption pending" in out
    assert "capacity shortage since 1970-01-01T00:00:00Z: no p5 in a" in out
    assert "other writer: an HPA" in out
    assert "s from decision to serving (as configured, no recorded start)" in out


async def test_live_check_names_what_settings_of_the_daemon_lack(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    async with kube_fake() as kube:
        cluster = {"kubeconfig": str(write_kubeconfig(tmp_path / "kubeconfig", kube.port))}
        daemon = {
            "kubernetes_workloads": {"namespaces": ["llm"], "cluster": cluster},
            "ha": {"lease": {"namespace": "ops", "cluster": cluster}},
        }
        file = tmp_path / "daemon.yaml"
        file.write_text(json.dumps({"daemon": daemon}))

        async def check(*options: str) -> tuple[int, str]:
            code = await asyncio.to_thread(main, ["check", str(file), "--live", *options])
            return code, capsys.readouterr().out

        code, text = await check()
        assert code == 1
        missing = "the definition of Workload is not installed: apply config/deploy/workload-crd.yaml"
        assert f"FAIL daemon.kubernetes_workloads: {missing} (needs a fix:" in text
        assert "ok   daemon.ha\n       permitted: get leases.coordination.k8s.io in namespace ops, list" in text
        assert "1 of 2 live checks failed" in text

        kube.kinds["forescale.io/v1alpha1", "workloads"] = Served("forescale.io/v1alpha1", "Workload", size=None)
        kube.forbidden = {("patch", "workloads/status"), ("create", "leases")}
        code, text = await check()
        assert code == 1
        role = "grant it in a Role with the rules in config/deploy"
        status = f"patch workloads/status.forescale.io in namespace llm: {role}/kubernetes-workloads.yaml"
        assert f"FAIL daemon.kubernetes_workloads\n       NOT PERMITTED: {status}" in text
        lease = f"NOT PERMITTED: create leases.coordination.k8s.io in namespace ops: {role}/kubernetes-leases.yaml"
        assert lease in text
        assert "2 of 2 live checks failed" in text

        kube.forbidden = set()
        code, text = await check("--json")
        assert code == 0
        settings = json.loads(text)["daemon"]
        assert {s["setting"]: len(s["permits"]) for s in settings} == {"kubernetes_workloads": 3, "ha": 6}
        assert {verb for verb, resource in kube.calls if resource != "selfsubjectaccessreviews"} == {"discover"}


async def test_live_check_of_every_namespace_needs_a_cluster_role(tmp_path: Path) -> None:
    async with kube_fake() as kube:
        cluster = {"kubeconfig": str(write_kubeconfig(tmp_path / "kubeconfig", kube.port))}
        followed = {"namespaces": ["*"], "custom_resources": False, "config_maps": True, "cluster": cluster}
        file = tmp_path / "daemon.yaml"
        file.write_text(json.dumps({"daemon": {"kubernetes_workloads": followed}}))
        kube.forbidden = {("watch", "configmaps")}
        (setting,) = await check_settings(load([file]).daemon, SystemClock())
        granted = {permit.action: permit.granted for permit in setting.permits}
        assert granted == {"list configmaps": True, "watch configmaps": False}
        assert setting.permits[1].detail.startswith("grant it in a ClusterRole with the rules in config/deploy/")
