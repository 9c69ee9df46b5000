"""Published sizes: what other autoscalers read, and when they get an error in place of a size."""

from __future__ import annotations

import pytest

from policies.model import Outcome, Result
from policies.model.limits import BlastRadius
from policies.quota.fleet_quota import FleetLimits
from scaler.journal.codec import decode_tick, encode_tick
from scaler.journal.explain import paragraphs
from scaler.journal.replay import replay
from scaler.ports import Misconfigured, Unavailable
from scaler.quota_ledger import QuotaLedger
from scaler.setup import Setup
from tests.scaler.leases.test_fence import Lease
from tests.scaler.partners.published import GPUS, Rig


def outcome(tick_outcomes: tuple[Outcome, ...]) -> tuple[int, int, Result, str]:
    (only,) = tick_outcomes
    return only.before, only.after, only.result, only.reason


async def test_size_is_published_and_never_written() -> None:
    rig = Rig()
    tick = await rig.tick(7)
    assert outcome(tick.outcomes) == (1, 7, Result.PUBLISHED, "HPA chat has applied 1 so far")
    assert rig.size() == 7
    assert rig.pool.writes == []
    assert decode_tick(encode_tick(tick)) == tick
    assert "    gpus 1 -> 7: published: HPA chat has applied 1 so far" in list(paragraphs(tick))


async def test_size_that_is_not_applied_yet_is_no_refused_write_and_stays_published() -> None:
    rig = Rig()
    for _ in range(20):
        tick = await rig.tick(7)
    assert outcome(tick.outcomes)[:3] == (1, 7, Result.PUBLISHED)
    assert tick.decision.abandoned == {}
    memory = rig.controller.history.pool_memories.of(GPUS)
    assert not memory.backoff.refusals
    rig.pool.desired = 7
    tick = await rig.tick(7)
    assert outcome(tick.outcomes) == (7, 7, Result.PUBLISHED, "applied by HPA chat")


async def test_partner_that_is_not_known_is_reported() -> None:
    rig = Rig()
    rig.pool.name = None
    assert outcome((await rig.tick(2)).outcomes)[3] == "no HPA or ScaledObject that applies it is known"


async def test_lead_time_begins_with_the_publication_but_at_most_a_minute_before_the_application() -> None:
    for wait_ticks, expected_s in ((1, 45.0), (40, 105.0)):
        rig = Rig()
        rig.pool.ready = 1
        for _ in range(wait_ticks):
            await rig.tick(2)
        rig.pool.desired = 2  # applied, and serving after 30 s
        for _ in range(2):
            await rig.tick(2)
        rig.pool.ready = 2
        await rig.tick(2)
        assert rig.controller.history.pool_memories.of(GPUS).lead_times.quantile_s(0.5) == expected_s


async def test_size_falls_with_full_evidence() -> None:
    rig = Rig()
    rig.pool.desired = 7
    await rig.tick(3)
    assert rig.size() == 3


async def test_published_size_never_falls_while_a_source_fails() -> None:
    rig = Rig()
    await rig.tick(7)
    rig.sources["other"].error = Unavailable("down")
    tick = await rig.tick(1)  # the partner may have applied 7 since 1 was observed
    assert outcome(tick.outcomes)[:3] == (1, 7, Result.PUBLISHED)
    assert rig.size() == 7
    await rig.tick(9)
    assert rig.size() == 9


async def test_size_is_withheld_while_no_policy_has_a_reading() -> None:
    rig = Rig()
    await rig.tick(7)
    for source in rig.sources.values():
        source.error = Unavailable("down")
    tick = await rig.tick(7)
    assert outcome(tick.outcomes)[2] is Result.WITHHELD
    with pytest.raises(Unavailable, match="chat, pool gpus: withheld: no policy recommends a size"):
        rig.size()
    rig.sources["queue"].error = None
    await rig.tick(2)
    assert rig.size() == 7, "what the partner may have applied before"


async def test_size_that_a_person_sets_is_published_without_any_reading() -> None:
    rig = Rig(override={"replicas": 5, "until": "2100-01-01T00:00:00+00:00"})
    for source in rig.sources.values():
        source.error = Unavailable("down")
    await rig.tick(0)
    assert rig.size() == 5


async def test_size_of_an_unreadable_pool_is_an_error() -> None:
    rig = Rig()
    await rig.tick(7)
    rig.pool.status_error = Unavailable("no route to the API server")
    await rig.tick(7)
    with pytest.raises(Unavailable, match="no size is decided: no route to the API server"):
        rig.size()


async def test_old_decision_is_an_error() -> None:
    rig = Rig()
    with pytest.raises(Unavailable, match="chat: no decision yet"):
        rig.size()
    await rig.tick(7)
    limit_s = 3 * 15 + 2 * rig.workload.spec.deadline_s
    rig.clock.advance(limit_s - 1)
    assert rig.size() == 7
    rig.clock.advance(2)
    with pytest.raises(Unavailable, match=r"chat: no tick completed for \d+ s"):
        rig.size()


async def test_dry_run_publishes_nothing() -> None:
    rig = Rig(dry_run=True)
    assert outcome((await rig.tick(7)).outcomes)[2] is Result.DRY_RUN
    with pytest.raises(Unavailable, match="--dry-run, which publishes nothing"):
        rig.size()


@pytest.mark.parametrize(
    ("namespace", "labels", "problem"),
    [
        ("llm", {}, "the key workload is missing; published pools in namespace llm: workload chat, pool gpus"),
        ("llm", {"workload": "chta"}, "workload chta has no published pool; .*: workload chat, pool gpus"),
        ("llm", {"workload": "chat", "pool": "spot"}, "workload chat, pool spot has no published pool; .*pool gpus"),
        ("other", {"workload": "chat"}, "workload chat has no published pool; .* in namespace other: none"),
    ],
)
def test_unknown_pool_is_refused_with_those_that_exist(namespace: str, labels: dict[str, str], problem: str) -> None:
    with pytest.raises(Misconfigured, match=problem):
        Rig().publications.select(namespace, labels)


def test_workload_with_two_published_pools_needs_the_pool() -> None:
    pools = {name: {"kind": "published", "name": f"chat-{name}", "namespace": "llm"} for name in ("spot", "regular")}
    publications = Rig(pools=pools).publications
    with pytest.raises(Misconfigured, match="workload chat has 2 published pools, so name its pool"):
        publications.select("llm", {"workload": "chat"})
    assert publications.select("llm", {"workload": "chat", "pool": "spot"}).pool == "spot"


async def test_decisions_are_replayed() -> None:
    rig = Rig()
    ticks = [await rig.tick(need) for need in (7, 7, 3)]
    assert [t.decision.target for t in ticks] == [7, 7, 3]
    replayed = list(replay([decode_tick(encode_tick(t)) for t in ticks], {rig.workload.fingerprint: rig.workload}))
    assert [r.equal for r in replayed] == [True, True, True]


async def test_removal_counts_for_the_fleet_once_it_is_applied() -> None:
    rig = Rig()
    ledger = QuotaLedger(FleetLimits(blast_radius=BlastRadius(share=0.5, window_s=600)))
    rig.controller.adopt(Setup(rig.workload, rig.sources, rig.pools, ledger=ledger))
    rig.pool.desired = 10
    for _ in range(5):
        tick = await rig.tick(7)
        assert tick.observation.grant is not None
        assert tick.observation.grant.removed == 0
        assert rig.size() == 7
    rig.pool.desired = 7
    await rig.tick(7)
    tick = await rig.tick(7)
    assert tick.observation.grant is not None
    assert tick.observation.grant.removed == 3


async def test_metrics_show_the_published_and_the_applied_size() -> None:
    rig = Rig()
    await rig.tick(7)
    page = rig.metrics.exposition().decode()
    assert 'forescale_published_replicas{pool="gpus",workload="chat"} 7.0' in page
    assert 'forescale_applied_replicas{pool="gpus",workload="chat"} 1.0' in page


async def test_daemon_without_a_valid_lease_publishes_no_size() -> None:
    rig = Rig()
    await rig.tick(7)
    assert rig.size() == 7
    rig.controller.adopt(Setup(rig.workload, rig.sources, rig.pools, fence=Lease("the lease of shard 3 has ended")))
    tick = await rig.tick(9)
    assert outcome(tick.outcomes) == (1, 9, Result.FENCED, "the lease of shard 3 has ended")
    with pytest.raises(Unavailable, match="the lease of shard 3 has ended"):
        rig.size()
