"""What a replica carries is learnt from the latencies that loads came with."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from policies.capacity import FILLED, HOPELESS, Fit, limit, missed_share, tail_s
from policies.engine_load import EngineLoad
from tests.policies.test_laws import LAW

FORGET = 15.0 / 3600.0


def taught(saturation: float, idle_s: float, loads: list[float], prior_s: float = 0.1) -> Fit:
    """A fit after turns of an ideal shared processor that saturates at `saturation`."""
    fit = Fit.prior(prior_s)
    for load in loads:
        fit = fit.learn(load, idle_s / max(1e-3, 1.0 - load / saturation), FORGET)
    return fit


LOADS = [0.1 + 0.4 * (k % 7) / 7 for k in range(200)]


@pytest.mark.parametrize("saturation", [0.6, 1.0, 1.8], ids=["slower", "as given", "faster"])
def test_the_load_at_saturation_is_learnt_whatever_was_given(saturation: float) -> None:
    fit = taught(saturation, 0.08, [min(load, 0.9 * saturation) for load in LOADS])
    assert fit.saturation == pytest.approx(saturation, rel=0.06)
    assert fit.limit(0.8) == pytest.approx(saturation * 0.9, rel=0.06)


def test_an_idle_engines_pace_is_learnt_within_some_turns_even_from_three_times_off() -> None:
    fit = taught(1.0, 0.01, LOADS[:20], prior_s=0.03)
    assert 1.0 / fit.pace == pytest.approx(0.01, rel=0.2)


@pytest.mark.parametrize("saturation", [0.2, 0.4, 2.5], ids=["a fifth", "two fifths", "two and a half"])
def test_a_guess_far_off_is_put_right_by_loads_on_either_side_of_it(saturation: float) -> None:
    """Loads beyond the saturation believed so far correct it, and not the pace, which once ended at nothing."""
    fit = taught(saturation, 0.014, [saturation * (0.4 + load) for load in 2 * LOADS], prior_s=0.01)
    assert fit.saturation == pytest.approx(saturation, rel=0.1)
    assert fit.idle_s == pytest.approx(0.014, rel=0.15)


def test_a_load_beyond_the_saturation_believed_in_corrects_it_and_leaves_the_pace_alone() -> None:
    fit = Fit.prior(0.1)
    after = fit.learn(3.0, 0.2, FORGET)
    assert after.pace == pytest.approx(fit.pace)
    assert after.saturation > 1.5


def test_a_turn_teaches_what_its_window_has_that_the_last_one_had_not() -> None:
    fits = {"ttft_p95_s": Fit.prior(0.1)}
    taught = load().teach(fits, {"ttft_p95_s": 0.3}, FORGET, 15.0)
    assert taught == {"ttft_p95_s": fits["ttft_p95_s"].learn(0.5, 0.3, FORGET, 0.25)}


def test_where_requests_waited_throughout_their_latencies_are_the_queues_and_what_was_done_counts() -> None:
    fits = {"ttft_p95_s": Fit.prior(0.1), "itl_p95_s": Fit.prior(0.01)}
    taught = load(waiting=400.0, backed_up=True).teach(fits, {"ttft_p95_s": 30.0}, FORGET, 60.0)
    assert taught == {quantity: fit.saturated(0.5, FORGET) for quantity, fit in fits.items()}


def test_changing_sizes_idleness_and_a_queue_that_has_just_come_teach_nothing() -> None:
    fits = {"ttft_p95_s": Fit.prior(0.1)}
    for nothing in (load(steady=False, backed_up=True), load(done=0.1), load(waiting=400.0)):
        assert nothing.teach(fits, {"ttft_p95_s": 0.3}, FORGET, 15.0) == fits


def load(*, done: float = 2.0, waiting: float = 0.0, steady: bool = True, backed_up: bool = False) -> EngineLoad:
    """Four replicas that answer 10 requests a second, in a window of a minute."""
    return EngineLoad(
        done=done,
        coming=done,
        requests_per_s=10.0,
        in_work=20.0,
        waiting=waiting,
        ready=4.0,
        steady=steady,
        lasting=waiting,
        backed_up=backed_up,
        window_s=60.0,
    )


def test_engines_with_a_standing_queue_tell_what_they_carry() -> None:
    fit = Fit.prior(0.1)
    for _ in range(12):
        fit = fit.saturated(0.3, FORGET, 0.25)
    assert fit.saturation == pytest.approx(0.3, rel=0.15)
    assert fit.idle_s == Fit.prior(0.1).idle_s


def test_it_gets_surer_with_every_turn_and_less_sure_while_nothing_is_learnt() -> None:
    fit = Fit.prior(0.1)
    before = fit.unsure(0.9)
    for load in LOADS[:40]:
        after = fit.learn(load, 0.1 / (1.0 - load), FORGET)
        assert after.unsure(0.9) <= fit.unsure(0.9) * (1.0 + FORGET)
        fit = after
    assert fit.unsure(0.9) < before / 2


def test_one_turn_of_nonsense_moves_little() -> None:
    fit = taught(1.0, 0.1, LOADS)
    assert fit.learn(0.3, 60.0, FORGET).saturation == pytest.approx(fit.saturation, rel=0.1)
    assert fit.learn(0.3, 0.001, FORGET).saturation == pytest.approx(fit.saturation, rel=0.1)


def test_a_drift_is_followed_within_hours() -> None:
    fit = taught(1.0, 0.1, LOADS)
    for load in 4 * LOADS:
        fit = fit.learn(load * 0.6, 0.1 / (1.0 - load), FORGET)  # the same slowness at three fifths of the load
    assert fit.saturation == pytest.approx(0.6, rel=0.1)


@LAW
@given(
    st.lists(st.tuples(st.floats(0.0, 3.0), st.floats(1e-4, 100.0), st.floats(0.0, 1.0)), min_size=1, max_size=60),
    st.floats(0.0, 0.5),
)
def test_whatever_it_is_taught_it_stays_finite_positive_and_within_eight_times_what_was_given(
    turns: list[tuple[float, float, float]], forget: float
) -> None:
    fit = Fit.prior(0.1)
    for load, latency_s, weight in turns:
        fit = fit.learn(load, latency_s, forget, weight)
        assert all(math.isfinite(v) for v in (fit.pace, fit.saturation, fit.pp, fit.ps, fit.ss))
        assert 0.125 - 1e-9 <= fit.saturation <= 8.0 + 1e-9
        assert fit.pp > 0
        assert fit.ss > 0
        assert fit.pp * fit.ss >= fit.ps**2 * (1 - 1e-6)
        assert Fit.recalled("x", fit.memory("x"), 1.0) == fit


def test_the_stricter_latency_sets_the_limit_and_says_so() -> None:
    fits = {"ttft_p95_s": taught(1.0, 0.1, LOADS), "itl_p95_s": taught(1.0, 0.02, LOADS, 0.01)}
    found = limit(fits, {"ttft_p95_s": 1.0, "itl_p95_s": 0.05}, 0.95)
    assert found.latency == "itl_p95_s"
    assert found.load == pytest.approx(0.6, rel=0.1)
    assert found.relaxed == pytest.approx(FILLED, rel=0.05)
    assert found.hopeless == ""


def test_no_promise_leaves_throughput_alone() -> None:
    found = limit({"ttft_p95_s": taught(1.0, 0.1, LOADS)}, {}, 0.99)
    assert (found.latency, found.load) == ("", found.relaxed)


def test_a_promise_that_an_idle_engine_misses_is_named_and_buys_nothing() -> None:
    fits = {"itl_p95_s": taught(1.0, 0.035, LOADS, 0.01)}
    found = limit(fits, {"itl_p95_s": 0.03}, 0.95)
    assert found.hopeless == "itl_p95_s"
    assert found.load == found.relaxed
    assert found.load > HOPELESS


@pytest.mark.parametrize("share", [0.9, 0.95, 0.99, 0.999])
def test_the_tail_that_sets_a_limit_is_the_one_that_lateness_is_told_by(share: float) -> None:
    assert missed_share(1.0, tail_s(1.0, share, 0.2), 0.2) == pytest.approx(1.0 - share)
    assert tail_s(1.0, 0.95, 0.2) == pytest.approx(1.0)
