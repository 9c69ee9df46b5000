"""Latency of backends on a real Envoy: what it measures, and the failover of a slow provider."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from policies.model import Fresh
from policies.model.spec import Slo
from scaler.config.kinds.envoy import Envoy
from tests.contracts.latency_rig import OpenedSpec, envoy_file, http_route, latency_rig
from tests.policies.route.builders import CHAT, DEEPINFRA, GPUS, OPENAI, Gateway, workload
from tests.servers.control_plane import why_not
from tests.servers.envoy import needs_envoy

pytestmark = [needs_envoy, pytest.mark.slow]
DEMAND_PER_S = 8.0
"""Demand of the failover: twice what two replicas carry."""
LIMIT_S = 4.0
"""Limit of the latency: less than the mean of 10 s and a fast response, and more than a loaded machine needs."""
SLOW_S = 11.0
"""Latency of the slow provider. A metrics page shows it as 10 s, the lower bound of its bucket."""


async def test_latency_is_that_of_the_start_or_of_whole_responses(tmp_path: Path) -> None:
    async with latency_rig(tmp_path) as env:
        assert isinstance(env.spec, Envoy)
        whole = await env.open(dataclasses.replace(env.spec, response_start_histogram=None))
        env.slow.token_s, env.slow.tokens = 0.3, 4
        assert (await env.read()).traffic == (await whole.status()).value.traffic == {}, "no interval yet"
        start_s = (await env.send(20)).traffic[OPENAI].latency_s
        whole_s = (await whole.status()).value.traffic[OPENAI].latency_s
        assert start_s is not None
        assert whole_s is not None
        assert start_s >= 0.3
        assert whole_s >= 1.2
        assert whole_s > start_s + 0.5, "a stream of 4 tokens takes four times as long as its first one"
        quiet = (await env.read()).traffic[OPENAI]
        assert (quiet.requests, quiet.latency_s) == (0.0, None), "no request is no latency, and not zero"
        await env.gateway.stop()
        await env.gateway.start_again()
        assert (await env.read()).traffic == {}, "the histogram begins anew"


on_kubernetes = pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is an API server")


@pytest.mark.parametrize(
    ("opened", "verb"),
    [(envoy_file, "begin"), pytest.param(http_route, "end", marks=on_kubernetes)],
    ids=["envoy", "http_route"],
)
async def test_slow_provider_loses_its_share_and_is_probed_back_in(
    tmp_path: Path, opened: OpenedSpec, verb: str
) -> None:
    """Latencies of an HTTPRoute's backends are read from the metrics page of the gateway."""
    async with latency_rig(tmp_path, opened) as env:
        chat = dataclasses.replace(workload(env.spec, replicas=2), slo=Slo(**{env.spec.latency_term: LIMIT_S}))
        decisions, reasons = Gateway(chat), list[str]()

        async def tick(requests: int) -> dict[str, float]:
            """Send requests, decide by Envoy's statistics, apply, and return the shares.

            The time between two ticks is simulated.
            """
            status = await (env.send(requests) if requests else env.read())
            status = dataclasses.replace(status, over_s=status.requests / DEMAND_PER_S)
            decision = decisions.tick(None, 2, reading=Fresh(status, decisions.at)).routes[CHAT]
            reasons.append(decision.reason)
            if not decision.is_kept:
                await env.apply(decision)
            return decisions.shares()

        await tick(0)
        assert await tick(20) == {GPUS: 0.5, OPENAI: 0.5}
        env.slow.token_s = SLOW_S
        assert await tick(60) == {GPUS: 0.5, DEEPINFRA: 0.5}
        assert f"the responses of openai {verb} late (" in reasons[-1]
        assert reasons[-1].endswith(" s; the limit is 4 s), and it is ejected for 30 s")
        env.slow.token_s = 0.0
        shares = [(await tick(20)).get(OPENAI, 0.0) for _ in range(5)]
        assert shares == [0.0, 0.1, 0.25, 0.5, 0.5]
