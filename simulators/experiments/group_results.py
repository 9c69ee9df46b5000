"""The figures of a group: workloads that carry one another's requests, judged together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from simulators.experiments import group_cases
from simulators.experiments.results import CountedRequests, ResultSummary
from simulators.experiments.run import SimulationRun


@dataclass(frozen=True, slots=True)
class GroupSummary:
    """The figures of a group.

    `attainment` is the share of all counted requests within the SLO; None where a workload has no SLO or no request is
    counted. `sent` has, for each workload, the share of its users' requests that others carried.
    """

    workloads: tuple[str, ...]
    requests: int
    attainment: float | None
    cost_usd: float
    sent: Mapping[str, float]


def summarize_groups(run: SimulationRun, summaries: Sequence[ResultSummary]) -> list[GroupSummary]:
    """Return the figures of each group among a run and its concurrent ones.

    `summaries` has the figures of each of these runs.
    """
    runs = (run, *run.concurrent)
    linked = group_cases.linked([each.case for each in runs])
    return [_summary([runs[n] for n in numbers], [summaries[n] for n in numbers]) for numbers in linked]


def _summary(runs: Sequence[SimulationRun], summaries: Sequence[ResultSummary]) -> GroupSummary:
    counted = [CountedRequests(run) for run in runs]
    requests = sum(len(each) for each in counted)
    is_judged = requests > 0 and all(each.slo is not None for each in counted)
    met = sum(int(each.met["all"].sum()) for each in counted) if is_judged else 0
    feeds = {run.case.workload.name: run.world.feed for run in runs}
    return GroupSummary(
        workloads=tuple(feeds),
        requests=requests,
        attainment=met / requests if is_judged else None,
        cost_usd=sum(summary.cost_usd for summary in summaries),
        sent={name: feed.sent / feed.handled for name, feed in feeds.items() if feed is not None and feed.handled},
    )
