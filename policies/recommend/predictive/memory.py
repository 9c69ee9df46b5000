"""The predictive policy's memory from one tick to the next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from policies.recommend.predictive.latency_model import LearnedLatency, recall_latencies
from policies.recommend.predictive.slo_correction import SloCorrection
from policies.recommend.predictive.slo_margin import SloMargin


@dataclass(frozen=True, slots=True)
class PredictiveMemory:
    """The policy's memory: typed values over recorded numbers.

    The numbers are those that a recommendation records (`Recommendation.memory`). A value that is not recorded, or that
    cannot have been learned, is the prior.
    """

    recorded: Mapping[str, float]

    @property
    def service_time_s(self) -> float | None:
        """Time that a request takes of a full replica. Seconds; None before the first."""
        return self.recorded.get("each_s")

    @property
    def response_time_s(self) -> float:
        """Time from a request's start in an engine to its end. Seconds; 0 before the first."""
        return self.recorded.get("answer_s", 0.0)

    @property
    def need(self) -> float | None:
        """The last need, in replica equivalents; None before the first."""
        return self.recorded.get("needed")

    @property
    def slo_margin(self) -> SloMargin:
        return SloMargin.from_memory(self.recorded)

    @property
    def slo_correction(self) -> SloCorrection:
        return SloCorrection.from_memory(self.recorded)

    def latencies(self, mix: float) -> dict[str, LearnedLatency]:
        """Return the learned model of each latency.

        `mix` is prompt tokens per generated token, 0 where not known.
        """
        return recall_latencies(self.recorded, mix)

    def with_engines(
        self, service_time_s: float, response_time_s: float, latencies: Mapping[str, LearnedLatency]
    ) -> PredictiveMemory:
        """Return the memory after a tick in which the engines were read."""
        learned = {k: v for key, latency in latencies.items() for k, v in latency.memory(key).items()}
        return PredictiveMemory({**self.recorded, "each_s": service_time_s, "answer_s": response_time_s, **learned})

    def with_slo(self, correction: SloCorrection, margin: SloMargin) -> PredictiveMemory:
        """Return the memory with the states of both SLO controllers."""
        return PredictiveMemory({**self.recorded, **correction.memory(), **margin.memory()})

    def with_need(self, replicas: float) -> PredictiveMemory:
        """Return the memory with this need as the last one."""
        return PredictiveMemory({**self.recorded, "needed": replicas})
