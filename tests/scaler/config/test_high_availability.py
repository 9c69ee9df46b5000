"""Settings of high availability: their limits, and the shard of each workload."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from policies.model import WorkloadName
from scaler.config.load import load
from scaler.config.postgresql_server import TABLE
from scaler.extras import missing_packages
from scaler.leases.shard_map import ShardMap, shard_map
from tests.scaler.config.test_limits_config import problems_of

SHARDS = 64


def document(name: str, *pools: str, more: str = "") -> str:
    listed = "\n".join(f"  p{n}: {pool}" for n, pool in enumerate(pools))
    return (
        f"workload: {name}\nmax_replicas: 8\nsources:\n  queue: {{kind: embedded}}\n"
        f"policies:\n  depth: {{kind: queue_depth}}\npools:\n{listed}\n{more}\n"
    )


def deployment(name: str) -> str:
    return f"{{kind: kubernetes, name: {name}}}"


def node_pool(cluster: str, name: str) -> str:
    where = f"project: {{id: my-project}}, location: us-central1, cluster: {cluster}, name: {name}"
    return f"{{kind: gke_node_pool, {where}}}"


def placed(folder: Path, *documents: str, daemon: str = "daemon: {}\n") -> ShardMap:
    (folder / "c.yaml").write_text("---\n".join((daemon, *documents)))
    return shard_map(load([folder]), SHARDS)


SERVER = "server: {host: db, database: forescale, username: forescale}"


def belongs_to(kind: str) -> str:
    return f"belongs to kind: {kind}; remove it, or set kind: {kind}"


@pytest.mark.parametrize(
    ("lease", "path", "rule"),
    [
        ("duration_s: 40, renew_s: 30", "daemon.ha.lease.renew_s", "must be at most 20, half of duration_s"),
        (
            "duration_s: 14, renew_s: 5",
            "daemon.ha.lease.duration_s",
            "must be above 14, the sum of renew_s and the deadline_s of workload a",
        ),
        ("kind: etcd", "daemon.ha.lease.kind", "must be one of kubernetes, postgresql"),
        (
            "kind: postgresql",
            "daemon.ha.lease.server",
            "is required with kind: postgresql. Set its host, database and username",
        ),
        (f"namespace: llm, kind: postgresql, {SERVER}", "daemon.ha.lease.namespace", belongs_to("kubernetes")),
        (SERVER, "daemon.ha.lease.server", belongs_to("postgresql")),
        ("table: other", "daemon.ha.lease.table", belongs_to("postgresql")),
        (
            f"kind: postgresql, table: 'a; b', {SERVER}",
            "daemon.ha.lease.table",
            f"must be {TABLE.words}, such as forescale_leases",
        ),
    ],
)
def test_lease_leaves_time_for_renewals_and_writes(tmp_path: Path, lease: str, path: str, rule: str) -> None:
    daemon = f"daemon: {{ha: {{lease: {{{lease}}}}}}}\n"
    problems = problems_of(tmp_path, daemon, document("a", deployment("a"), more="deadline_s: 9"))
    assert [(p.path, p.rule) for p in problems] == [(path, rule)]


@pytest.mark.parametrize("store", ["{}", f"{{directory: shared, {SERVER}}}", f"{{s3: {{bucket: llm}}, {SERVER}}}"])
def test_snapshots_have_one_store(tmp_path: Path, store: str) -> None:
    daemon = f"daemon: {{snapshots: {store}}}\n"
    problems = problems_of(tmp_path, daemon, document("a", deployment("a")))
    rule = "requires exactly one of directory, server, s3, gcs and azure_blob"
    assert [(p.path, p.rule) for p in problems] == [("daemon.snapshots", rule)]


@pytest.mark.parametrize(
    ("store", "extras"),
    [
        ("directory: shared", set()),
        (SERVER, {"postgresql"}),
        ("s3: {bucket: llm}", {"aws"}),
        ("gcs: {bucket: llm, project: {id: my-project}}", {"gcp"}),
        ("azure_blob: {account_url: 'https://llm.blob.core.windows.net', container: llm}", {"azure"}),
    ],
)
def test_store_of_snapshots_needs_its_extra(tmp_path: Path, store: str, extras: set[str]) -> None:
    documents = (f"daemon: {{snapshots: {{{store}}}}}\n", document("a", deployment("a")))
    (tmp_path / "c.yaml").write_text("---\n".join(documents))
    assert missing_packages(load([tmp_path])).keys() - {"sim", "kubernetes"} == extras


@pytest.mark.parametrize(
    ("more", "extras"), [("", {"kubernetes"}), (f"kind: postgresql, {SERVER}", {"kubernetes", "postgresql"})]
)
def test_store_of_leases_needs_its_extra(tmp_path: Path, more: str, extras: set[str]) -> None:
    documents = (f"daemon: {{ha: {{lease: {{{more}}}}}}}\n", document("a", deployment("a")))
    (tmp_path / "c.yaml").write_text("---\n".join(documents))
    assert missing_packages(load([tmp_path])).keys() - {"sim"} == extras


def test_workloads_that_share_a_lock_are_in_one_shard(tmp_path: Path) -> None:
    """`b` links the clusters of `a` and `c`, so the three are one unit. The others spread."""
    linked = (
        document("a", node_pool("one", "a")),
        document("b", node_pool("one", "b"), node_pool("two", "b")),
        document("c", node_pool("two", "c")),
    )
    others = [document(f"d{n}", deployment(f"d{n}")) for n in range(40)]
    shards = placed(tmp_path, *linked, *others).shards
    assert len({shards[WorkloadName(name)] for name in "abc"}) == 1
    assert len(Counter(shards.values())) > 20


def in_group(group: str) -> str:
    return f"group: {group}"


def test_workloads_of_a_group_are_in_one_shard(tmp_path: Path) -> None:
    """They read one another's state. Groups spread, and so do workloads without one."""
    names = [WorkloadName(f"{place}{n}") for n in range(30) for place in ("eu", "us", "asia")]
    documents = [document(name, deployment(name), more=in_group(f"g{name.strip('euasi')}")) for name in names]
    shards = placed(tmp_path, *documents).shards
    for n in range(30):
        assert len({shards[WorkloadName(f"{place}{n}")] for place in ("eu", "us", "asia")}) == 1
    assert len(Counter(shards.values())) > 15


def test_groups_of_two_namespaces_are_two_units(tmp_path: Path) -> None:
    names = [f"team-{n}.chat" for n in range(20)]
    shards = placed(tmp_path, *(document(name, deployment(name), more=in_group("chat")) for name in names)).shards
    assert len(Counter(shards.values())) > 10


def test_fleet_limits_leave_the_workloads_in_their_shards(tmp_path: Path) -> None:
    documents = [document(f"d{n}", deployment(f"d{n}")) for n in range(10)]
    limited = placed(tmp_path, *documents, daemon="daemon: {fleet: {max_gpus: 100}}\n")
    assert limited.shards == placed(tmp_path, *documents).shards
    assert len(set(limited.shards.values())) > 1


def test_a_lock_that_moves_changes_the_fingerprints_of_both_shards(tmp_path: Path) -> None:
    """A daemon that has read the change and one that has not disagree on both shards."""
    before = placed(tmp_path, document("a", node_pool("two", "a")), document("b", deployment("b")))
    after = placed(
        tmp_path, document("a", node_pool("two", "a"), node_pool("one", "a")), document("b", deployment("b"))
    )
    a, b = WorkloadName("a"), WorkloadName("b")
    assert before.shards[a] != after.shards[a]
    for shard in (before.shards[a], after.shards[a]):
        assert before.fingerprints.get(shard) != after.fingerprints.get(shard)
    assert before.shards[b] == after.shards[b]
    assert before.fingerprints[before.shards[b]] == after.fingerprints[before.shards[b]]
