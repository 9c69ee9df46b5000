"""The lease protocol, the shares of the shards, and the shard map, by examples and laws."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from policies.model import WorkloadName
from scaler.commands.shards import lines
from scaler.config.load import load
from scaler.leases.protocol import RELEASED, Lease, LeaseOrigin, Record
from scaler.leases.shard_leases import SETTLE_S, ShardLeases, address_difference, fingerprint_in, note_of
from scaler.leases.shard_map import ShardMap, shard_map
from scaler.leases.shares import assign, shard_of
from scaler.leases.store import LeaseNames

SHARDS = 16
OTHER = Record("other", 4, 15.0, "10")


def lease(record: Record | None = OTHER, at: float = 100.0) -> Lease:
    return Lease("me", 15.0).observe(record, at)


def test_expiry_counts_from_the_last_observed_change() -> None:
    """Records of the same version change nothing; a renewal starts the time anew."""
    seen = lease().observe(OTHER, 110.0)
    assert (seen.claim(114.9), seen.holder(114.9)) == (None, "other")
    assert seen.holder(115.0) == RELEASED
    renewed = seen.observe(replace(OTHER, version="11"), 112.0)
    assert renewed.claim(126.9) is None
    claim = renewed.claim(127.0)
    assert claim is not None
    assert (claim.record.transitions, claim.replaces, claim.origin) == (5, "11", LeaseOrigin.UNKNOWN)


def test_validity_counts_from_when_the_renewal_began() -> None:
    """The response came after 3 s. A write of 5 s may begin until 10 s after the renewal began."""
    free = lease(Record(RELEASED, 4, 1.0, "10"))
    claim = free.claim(100.0)
    assert claim is not None
    held = free.accept(claim, replace(claim.record, version="11"), 103.0)
    assert held.may_write(109.9, 5.0)
    assert not held.may_write(110.0, 5.0)
    assert not held.may_write(1e6, 0.0)  # as after a pause


def test_expired_lease_is_written_under_after_one_more_duration() -> None:
    seen = lease()
    claim = seen.claim(120.0)
    assert claim is not None
    held = seen.accept(claim, replace(claim.record, version="11"), 121.0)
    renewal = held.claim(130.0)
    assert renewal is not None
    held = held.accept(renewal, replace(renewal.record, version="12"), 130.5)
    assert (held.may_write(134.9, 1.0), held.may_write(135.0, 1.0)) == (False, True)
    assert held.held is not None
    assert held.held.epoch == 5


def test_release_ends_the_hold_before_its_write_is_sent() -> None:
    free = lease(None)
    claim = free.claim(100.0)
    assert claim is not None
    held = free.accept(claim, replace(claim.record, version="1"), 100.0)
    released = held.release(101.0)
    assert released is not None
    assert not released[0].may_write(200.0, 0.0)
    assert released[0].held is None
    assert (released[1].record.holder, released[1].record.transitions) == (RELEASED, 0)
    again = released[0].claim(102.0)  # the release was lost, and the lease is wanted again
    assert again is not None
    assert again.origin is LeaseOrigin.UNKNOWN


def test_other_holders_record_ends_the_hold_and_an_older_record_does_not() -> None:
    free = lease(Record(RELEASED, 4, 1.0, "10"))
    claim = free.claim(100.0)
    assert claim is not None
    held = free.accept(claim, replace(claim.record, version="12"), 100.0)
    assert held.observe(replace(OTHER, version="11"), 101.0) == held
    assert held.observe(replace(OTHER, version="13"), 101.0).held is None
    assert held.observe(None, 101.0).held is None


holders_of = st.dictionaries(st.integers(0, SHARDS - 1), st.sampled_from("abcdexy"))


@settings(deadline=None)
@given(st.sets(st.sampled_from("abcde"), min_size=1), holders_of)
def test_shares_are_fair_and_the_fewest_shards_move(members: set[str], holders: dict[int, str]) -> None:
    assigned = assign(SHARDS, members, holders)
    sizes = Counter(assigned.values())
    assert assigned.keys() == set(range(SHARDS))
    assert max(sizes.values()) - min(sizes[m] for m in members) <= 1
    kept = sum(holders.get(shard) == member for shard, member in assigned.items())
    held = sorted((sum(h == m for h in holders.values()) for m in members), reverse=True)
    quota = sorted((sizes[m] for m in members), reverse=True)
    assert kept == sum(map(min, held, quota))  # no fair division keeps more


@settings(deadline=None)
@given(st.text(), st.integers(1, 64))
def test_another_shard_moves_only_locks_to_itself(lock: str, shards: int) -> None:
    assert shard_of(lock, shards + 1) in {shard_of(lock, shards), shards}


class Shares(RuleBasedStateMachine):
    """Members join, leave and crash, and each takes and releases shards by its own, perhaps old view."""

    def __init__(self) -> None:
        super().__init__()
        self.members: set[str] = set()
        self.holders: dict[int, str] = {}
        self.names = iter(range(10**6))

    @rule()
    def join(self) -> None:
        self.members.add(f"m{next(self.names)}")

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def end(self, data: st.DataObject) -> None:
        gone = data.draw(st.sampled_from(sorted(self.members)))
        self.members.remove(gone)
        self.holders = {shard: holder for shard, holder in self.holders.items() if holder != gone}

    @precondition(lambda self: self.members)
    @rule(data=st.data())
    def one_round(self, data: st.DataObject) -> None:
        member = data.draw(st.sampled_from(sorted(self.members)))
        self._round(member)

    def _round(self, member: str) -> None:
        wanted = {shard for shard, m in assign(SHARDS, self.members, self.holders).items() if m == member}
        for shard in range(SHARDS):
            if shard in wanted and shard not in self.holders:
                self.holders[shard] = member
            elif shard not in wanted and self.holders.get(shard) == member:
                del self.holders[shard]

    @invariant()
    def four_rounds_of_all_members_are_fair_and_stable(self) -> None:
        """A shard that is released late in one round is taken in the next."""
        before = dict(self.holders)
        for _ in range(4):
            for member in sorted(self.members):
                self._round(member)
        sizes = Counter(self.holders.values())
        if self.members:
            assert sum(sizes.values()) == SHARDS
            assert max(sizes.values()) - min(sizes[m] for m in self.members) <= 1
        settled = dict(self.holders)
        for member in sorted(self.members):
            self._round(member)
        assert self.holders == settled
        self.holders = before


Shares.TestCase.settings = settings(max_examples=20, stateful_step_count=12, deadline=None)
TestShares = pytest.mark.slow(Shares.TestCase)


def leases_of(identity: str, shard_map: ShardMap) -> ShardLeases:
    leases = ShardLeases(identity, LeaseNames("forescale"), 2, 15.0)
    leases.map = shard_map
    return leases


def test_members_agree_on_shards_with_equal_locks_only() -> None:
    old, new = ShardMap(fingerprints={0: "aa", 1: "bb"}), ShardMap(fingerprints={0: "aa", 1: "cc"})
    leases = leases_of("me", new)
    leases.observe("forescale-member-other", Record("other", 0, 15.0, "1", note_of(old)), 0.0)
    assert (leases.agreed(0, 1.0), leases.agreed(1, 1.0)) == (True, False)
    assert leases.agreed(1, 15.0)  # the other member has expired
    assert fingerprint_in("[]", 0) == fingerprint_in("{", 0) == "malformed"


def map_with_address(folder: Path, server: str) -> ShardMap:
    """Return the map of a workload in the cluster whose API server a kubeconfig names so."""
    folder.mkdir()
    kubeconfig = {
        "clusters": [{"name": "here", "cluster": {"server": server}}],
        "contexts": [{"name": "here", "context": {"cluster": "here", "user": "me"}}],
        "current-context": "here",
    }
    (folder / "kubeconfig").write_text(json.dumps(kubeconfig))
    source = {"kind": "http_json", "url": "http://127.0.0.1:1/", "values": {"running": "/running"}}
    document = {
        "workload": "llm",
        "max_replicas": 2,
        "sources": {"engines": source},
        "policies": {"running": {"kind": "metric", "quantity": "running", "target": 1}},
        "pools": {"gpus": {"kind": "kubernetes", "name": "llm", "cluster": {"kubeconfig": str(folder / "kubeconfig")}}},
    }
    (folder / "llm.yaml").write_text(json.dumps(document))
    return shard_map(load([folder / "llm.yaml"]), 2)


def test_two_addresses_of_one_api_server_are_named(tmp_path: Path) -> None:
    maps = [
        map_with_address(tmp_path / "a", "https://10.0.0.1:6443"),
        map_with_address(tmp_path / "b", "https://kube.example.com:6443"),
    ]
    leases = leases_of("me", maps[0])
    assert not leases.address_difference(1.0)
    leases.observe("forescale-member-other", Record("other", 0, 15.0, "1", note_of(maps[1])), 0.0)
    assert leases.address_difference(1.0) == (
        "daemon other names https://kube.example.com:6443 where this configuration names https://10.0.0.1:6443: use one"
        " address of each API server in all kubeconfigs"
    )
    for note in (note_of(maps[0]), note_of(ShardMap()), "{", "[]", '{"addresses": 3}'):
        assert not address_difference(maps[0].addresses, note)
    member = {"member": "other", "renewed": "", "share": {}, "problem": "names an address"}
    assert list(lines([], [member]))[-1] == "  names an address"


def test_new_member_waits_for_others_before_it_takes_free_shards() -> None:
    leases = leases_of("me", ShardMap())
    leases.observe_all({"forescale-member-me": Record("me", 0, 15.0, "1")}, 0.0, 0.0)
    leases.joined_at = 0.0
    assert leases.assigned(SETTLE_S - 0.1) == set()
    assert leases.assigned(SETTLE_S) == {0, 1}
    leases.observe("forescale-member-other", Record("other", 0, 15.0, "2"), 1.5)
    assert len(leases.assigned(2.0)) == 1


def test_refusal_names_the_reason() -> None:
    chat = WorkloadName("chat")
    leases = leases_of("me", ShardMap({chat: 1}))
    assert "does not hold the lease of shard 1" in leases.refusal(chat, None, 1.0, 0.0)
    leases.observe_all({}, 0.0, 0.0)
    for name in ("forescale-member-me", "forescale-shard-1"):
        state = leases.lease(name)
        assert state is not None
        claim = state.observe(None, 0.0).claim(0.0)
        assert claim is not None
        leases.replace(name, state.accept(claim, replace(claim.record, version="1"), 0.0))
    assert "changed from epoch 7 to 0" in leases.refusal(chat, 7, 1.0, 1.0)
    assert "renewed 14.5 s ago" in leases.refusal(chat, 0, 1.0, 14.5)
    assert "compares its configuration" in leases.refusal(chat, 0, 1.0, 1.0)
    leases.suspended = False
    leases.cleared = {chat}
    assert "writes begin in 14.0 s" in leases.refusal(chat, 0, 1.0, 1.0)
    shard = leases.shards[1]
    assert shard.held is not None
    leases.shards[1] = replace(shard, held=replace(shard.held, writes_from=0.0))
    assert leases.refusal(chat, 0, 1.0, 1.0) == ""
