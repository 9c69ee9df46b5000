"""A workload without a ready replica, whose requests another member of its group can carry in part."""

from __future__ import annotations

import pytest

from tests.policies.route.group_world import FRONT, GPUS, OTHER, group


def test_part_that_another_member_carries_is_not_rejected() -> None:
    """The other member has 5 replicas for 2 of 10 requests per second, and 12 come."""
    both = group(us={"min_replicas": 5})
    both.run(30, eu=2.0, us=2.0)
    both.eu.stock = 0
    both.run(2, eu=12.0, us=2.0)
    assert both.eu.decision is not None
    split = both.eu.decision.routes[FRONT]
    assert split.retry_after_s is None
    assert split.weights[OTHER] == pytest.approx(10_000 * 8.0 / 12.0, abs=300)
    assert split.weights[GPUS] == 10_000 - split.weights[OTHER]
    assert "0 of 3 replicas are ready" in split.reason
