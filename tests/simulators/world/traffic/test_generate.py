"""Generated traffic: its rates, bursts and lengths against theory, and the laws of its random streams."""

from __future__ import annotations

import subprocess
import sys
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaler.config.problems import ConfigError
from simulators.experiments.spec_loader import read_file, read_kind
from simulators.world.rng import streams, within
from simulators.world.traffic import rates
from simulators.world.traffic.arrivals import arrivals, renewal
from simulators.world.traffic.describe import describe
from simulators.world.traffic.generate import CHUNK_S, GENERATORS, Mix, TraceFile
from simulators.world.traffic.lengths import Lengths
from simulators.world.traffic.shapes import Daily, FlashCrowd, OnOff, Poisson, Ramp, Rates, RateSteps, Sine
from simulators.world.traffic.trace import TraceError, joined
from simulators.world.traffic.writers import write
from tests.laws import law
from tests.simulators.world.traffic.makers import rows_of, text, trace

LAW = law(40)
RNG = streams(11)
SYNTHETIC: dict[str, Any] = {
    "daily": Daily(mean_rps=3.0, noise_cv=0.0, duration_s=2 * 86_400),
    "flash_crowd": FlashCrowd(base_rps=4.0, factor=6.0, rise_s=0.0),
    "on_off": OnOff(on_rps=30.0, on_s=100.0, off_s=50.0, duration_s=9000.0),
    "poisson": Poisson(rps=10.0),
    "ramp": Ramp(to_rps=20.0),
    "sine": Sine(min_rps=1.0, max_rps=24.0, period_s=900.0),
    "steps": RateSteps(rates_rps=(5.0, 0.0, 25.0)),
}


@pytest.mark.parametrize("kind", SYNTHETIC)
def test_number_of_requests_matches_the_integral_of_the_rate(kind: str) -> None:
    generator = SYNTHETIC[kind]
    seconds = np.arange(0.5, generator.length_s)
    expected = generator.rate_rps(seconds).sum()
    assert len(generator.requests(RNG)) == pytest.approx(expected, abs=4 * expected**0.5)


@pytest.mark.parametrize("kind", SYNTHETIC)
def test_arrivals_follow_the_rate_over_time(kind: str) -> None:
    generator = SYNTHETIC[kind]
    counts = np.histogram(generator.requests(RNG).arrival_s, np.arange(0, generator.length_s + 1, 300.0))[0]
    expected = generator.rate_rps(np.arange(0.5, generator.length_s)).reshape(-1, 300).sum(axis=1)
    np.testing.assert_array_less(np.abs(counts - expected), 5 * np.sqrt(expected) + 1e-9 + (expected > 0) * 5)


@pytest.mark.slow
def test_gaps_are_poisson_at_cv_1_and_burstier_above() -> None:
    calm, bursty, even = (describe(Poisson(rps=20.0, gap_cv=cv, duration_s=20_000).requests(RNG)) for cv in (1, 4, 0))
    assert calm.gap_cv == pytest.approx(1.0, abs=0.02)
    assert calm.dispersion_1min == pytest.approx(1.0, abs=0.25)
    assert bursty.gap_cv == pytest.approx(4.0, rel=0.05)
    assert bursty.dispersion_1min == pytest.approx(16.0, rel=0.3)  # CV squared, for a renewal process
    assert even.gap_cv == pytest.approx(0.0, abs=0.02)


@pytest.mark.slow
@pytest.mark.parametrize("cv", [0.0, 0.5, 1.0, 5.0])
def test_short_intervals_of_a_renewal_process_have_their_mean_event_count(cv: float) -> None:
    """The process is stationary from time 0: an interval of 0.2 mean gaps has 0.2 events on average."""
    rng = np.random.default_rng(2)
    counts = np.array([len(renewal(0.2, cv, rng)) for _ in range(30_000)])
    assert counts.mean() == pytest.approx(0.2, abs=4 * counts.std() / len(counts) ** 0.5)


@pytest.mark.slow
@LAW
@given(
    st.lists(st.floats(0, 50), min_size=1, max_size=20),
    st.floats(0.1, 100),
    st.floats(0, 8),
    st.integers(0, 99),
)
def test_arrivals_are_sorted_milliseconds_where_the_rate_is_not_zero(
    rps: list[float], step_s: float, cv: float, seed: int
) -> None:
    edges = np.asarray(np.arange(len(rps) + 1) * step_s, np.float64)
    times = arrivals(edges, np.array(rps), cv, np.random.default_rng(seed))
    assert (np.diff(times) >= 0).all()
    assert ((times >= 0) & (times < edges[-1])).all()
    np.testing.assert_array_equal(np.round(times, 3), times)
    for time in times:  # rounded down by less than a millisecond
        first, last = (np.searchsorted(edges, t, side="right") - 1 for t in (time, time + 0.00101))
        assert any(rps[min(i, len(rps) - 1)] > 0 for i in range(first, last + 1))


GENERATOR_STRATEGY = st.sampled_from(
    [
        *SYNTHETIC.values(),
        Daily(mean_rps=2.0, noise_cv=0.5, gap_cv=3.0, duration_s=7000.0),
        Mix(clients={"a": Poisson(rps=1.0), "b": OnOff(on_s=7.0, off_s=900.0)}),
    ]
)


@LAW
@given(GENERATOR_STRATEGY, st.lists(st.floats(0, 4000), min_size=2, max_size=5), st.integers(0, 3))
def test_requests_generated_in_pieces_equal_those_generated_at_once(
    generator: Any, cuts: list[float], seed: int
) -> None:
    cuts.sort()
    pieces = [generator.requests(streams(seed), a, b) for a, b in pairwise(cuts)]
    assert joined(pieces, "pieces").digest() == generator.requests(streams(seed), cuts[0], cuts[-1]).digest()


def test_a_repeated_and_scaled_trace_file_is_equal_in_pieces(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    write(trace(*((i * 0.5, 10 + i, 5) for i in range(100))), file)
    generator = TraceFile(file=str(file), repeat=True, scale=2.5, speed=2.0)
    full = generator.requests(RNG, 0.0, 300.0)
    assert len(full) == pytest.approx(300 / generator.length_s * 250, rel=0.1)
    pieces = [generator.requests(RNG, a, a + 12.5) for a in np.arange(0.0, 300.0, 12.5)]
    assert joined(pieces, "pieces").digest() == full.digest()


def test_a_trace_file_is_replayed_unchanged(tmp_path: Path) -> None:
    file = tmp_path / "t.csv"
    rows = [(float(i), 10 + i, 5) for i in range(10)]
    write(trace(*rows), file)
    assert rows_of(TraceFile(file=str(file)).requests(RNG)) == rows
    window = TraceFile(file=str(file), start_s=2, end_s=6, speed=2.0)
    assert rows_of(window.requests(RNG)) == [(0, 12, 5), (0.5, 13, 5), (1, 14, 5), (1.5, 15, 5)]
    assert window.length_s == 2.0
    assert [t for t, _, _ in rows_of(TraceFile(file=str(file), repeat=True).requests(RNG, 9, 13))] == [9, 10, 11, 12]


def test_a_trace_file_of_several_models_is_read_for_one(tmp_path: Path) -> None:
    rows = "".join(f"{i}.5,m{i % 2},{i + 1},5\n" for i in range(6))
    file = text(tmp_path / "log.csv", "timestamp,model,prompt_tokens,completion_tokens\n" + rows)
    for name, prompts in (("m1", [2, 4, 6]), ("m*", [1, 2, 3, 4, 5, 6])):
        result = TraceFile(file=str(file), model_name=name, end_s=10).requests(RNG)
        assert result.prompt_tokens.tolist() == prompts


def test_each_setting_changes_only_its_own_random_stream() -> None:
    base = Poisson(rps=5.0)
    longer = Poisson(rps=5.0, output=Lengths(mean_tokens=999.0))
    one, other = base.requests(RNG), longer.requests(RNG)
    assert one.arrival_s.tolist() == other.arrival_s.tolist()
    assert one.prompt_tokens.tolist() == other.prompt_tokens.tolist()
    assert one.output_tokens.tolist() != other.output_tokens.tolist()
    assert base.requests(streams(12)).digest() != one.digest()


def test_another_client_changes_no_other_client() -> None:
    two = Mix(clients={"a": Poisson(rps=1.0), "b": Poisson(rps=2.0)}).requests(RNG)
    one = Mix(clients={"a": Poisson(rps=1.0)}).requests(RNG)
    assert two.client is not None
    assert two.arrival_s[two.client == 0].tolist() == one.arrival_s.tolist()
    assert Poisson(rps=1.0).requests(within(RNG, "a")).arrival_s.tolist() == one.arrival_s.tolist()


@pytest.mark.slow
def test_equal_seeds_give_equal_traffic_whatever_the_hash_seed() -> None:
    script = (
        "from simulators.experiments.spec_loader import read_kind;"
        "from simulators.world.traffic.generate import GENERATORS;"
        "from simulators.world.rng import streams;"
        "spec = {'kind': 'mix', 'clients': {'a': {'kind': 'daily', 'mean_rps': 5}, 'b': {'kind': 'on_off'}}};"
        "print(read_kind(GENERATORS, spec).requests(streams(5)).digest())"
    )
    printed = {
        subprocess.run(
            [sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, capture_output=True, text=True, check=True
        ).stdout
        for seed in ("1", "2")
    }
    mix = {"kind": "mix", "clients": {"a": {"kind": "daily", "mean_rps": 5}, "b": {"kind": "on_off"}}}
    assert printed == {read_kind(GENERATORS, mix).requests(streams(5)).digest() + "\n"}


# --- lengths


@pytest.mark.parametrize("cv", [0.3, 1.0, 2.0])
def test_lengths_have_their_mean_and_spread(cv: float) -> None:
    tokens = Lengths(mean_tokens=2000.0, cv=cv, max_tokens=10_000_000).draw(200_000, np.random.default_rng(1))
    assert tokens.mean() == pytest.approx(2000, rel=0.02)
    assert tokens.std() / tokens.mean() == pytest.approx(cv, rel=0.1)


def test_lengths_have_their_quantiles_and_bounds() -> None:
    lengths = Lengths(p50_tokens=100.0, p95_tokens=900.0, min_tokens=50, max_tokens=1000)
    tokens = lengths.draw(200_000, np.random.default_rng(1))
    assert np.quantile(tokens, 0.5) == pytest.approx(100, rel=0.02)
    assert np.quantile(tokens, 0.95) == pytest.approx(900, rel=0.03)
    assert (tokens.min(), tokens.max()) == (50, 1000)
    assert set(Lengths(mean_tokens=7.0, cv=0.0).draw(10, np.random.default_rng(1)).tolist()) == {7}


def test_length_pairs_are_sampled_from_another_trace(tmp_path: Path) -> None:
    file = tmp_path / "like.csv"
    write(trace((0, 100, 1), (1, 200, 2), (2, 300, 3)), file)
    requests = Poisson(rps=10.0, lengths_like=str(file)).requests(RNG)
    assert {(p, o) for _, p, o in rows_of(requests)} == {(100, 1), (200, 2), (300, 3)}


# --- rates


def test_a_rate_series_is_followed_step_by_step(tmp_path: Path) -> None:
    file = text(tmp_path / "r.csv", "t_s,rate_rps\n100,2\n160,0\n220,40\n")
    series = rates.read(file)
    assert series.duration_s == 180
    assert series.at(np.array([0, 59.9, 60, 150, 179, 180, -1])).tolist() == [2, 2, 0, 40, 40, 0, 0]
    generator = Rates(file=str(file))
    assert generator.length_s == 180
    assert Rates(file=str(file), speed=2.0, start_s=60.0).length_s == 60
    assert Mix(clients={"a": generator, "b": Poisson(duration_s=99.0)}).length_s == 180
    counts = np.histogram(generator.requests(RNG).arrival_s, np.arange(0, 181, 60.0))[0]
    assert counts[1] == 0
    assert counts[2] == pytest.approx(2400, abs=200)
    assert len(generator.requests(RNG, 180.0, 360.0)) == 0
    repeated = Rates(file=str(file), repeat=True, scale=0.5)
    assert repeated.rate_rps(np.array([180.0, 330.0])).tolist() == [1.0, 20.0]
    assert Rates(file=str(file), speed=2.0).rate_rps(np.array([29.0, 31.0, 61.0])).tolist() == [2.0, 0.0, 40.0]


def test_rates_of_servegen_clients_are_summed(tmp_path: Path) -> None:
    text(tmp_path / "chunk-0-trace.csv", "0,5.0,0.5,Gamma,1.0,1.0\n600,7.0,1.0,Gamma,1.0,1.0\n")
    text(tmp_path / "chunk-1-trace.csv", "600,1.0,0.5,Weibull,1.0,1.0\n1200,2.0,1.0,Gamma,1.0,1.0\n")
    single = rates.read(tmp_path / "chunk-0-trace.csv")
    assert single.rate_rps.tolist() == [5.0, 7.0]
    summed = rates.read(tmp_path)
    assert summed.t_s.tolist() == [0, 600, 1200]
    assert summed.rate_rps.tolist() == [5.0, 8.0, 2.0]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("", "is empty"),
        ("t_s,rate\n0,1\n", "did you mean 'rate'"),
        ("t_s,rate_rps\n0,1\n", "has 1 rates; must have at least two"),
        ("t_s,rate_rps\n0,1\n60,\n", "line 3, column 'rate_rps' = ''"),
        ("t_s,rate_rps\n0,1\n60\n", "line 3, column 'rate_rps' = ''"),
        ("t_s,rate_rps\n0,1\n60,nan\n", "line 3, column 'rate_rps' = 'nan'"),
        ("t_s,rate_rps\n0,-1\n60,1\n", "line 2, column 'rate_rps' = '-1': must be 0 to"),
        ("t_s,rate_rps\n60,1\n60,1\n", "line 3, column 't_s' = '60': must be later than"),
    ],
)
def test_an_invalid_rate_series_is_reported_with_its_line(tmp_path: Path, content: str, message: str) -> None:
    with pytest.raises(TraceError) as raised:
        rates.read(text(tmp_path / "r.csv", content))
    assert message in str(raised.value)


# --- documents


def test_all_problems_of_a_document_are_reported_with_their_lines(tmp_path: Path) -> None:
    file = text(
        tmp_path / "mix.yaml",
        "kind: mix\nduration_s: -5\nclients:\n  a: {kind: poison}\n"
        "  b:\n    kind: on_off\n    on_rp: 3\n    prompt: {mean_token: 3}\n"
        "  c: {kind: trace, file: x, start_s: 5, end_s: 4}\n  d: 7\n",
    )
    with pytest.raises(ConfigError) as raised:
        read_file(GENERATORS, file)
    assert [(p.line, p.path) for p in raised.value.problems] == [(2, "duration_s")]
    file.write_text(file.read_text().replace("-5", "5"))
    with pytest.raises(ConfigError) as raised:
        read_file(GENERATORS, file)
    assert {(p.line, p.path): p.hint for p in raised.value.problems} == {
        (4, "clients.a.kind"): "did you mean 'poisson'?",
        (7, "clients.b.on_rp"): "did you mean 'on_rps'?",
        (8, "clients.b.prompt.mean_token"): "did you mean 'mean_tokens'?",
        (9, "clients.c.end_s"): "",
        (10, "clients.d"): "",
    }


@pytest.mark.parametrize(
    ("settings_", "path"),
    [
        ({"kind": "mix", "clients": {}}, "clients"),
        ({"kind": "steps", "rates_rps": []}, "rates_rps"),
        ({"kind": "steps", "rates_rps": [-1.0]}, "rates_rps"),
        ({"kind": "poisson", "rps": "5"}, "rps"),
        ({"kind": "poisson", "prompt": {}}, "prompt.mean_tokens"),
        ({"kind": "poisson", "prompt": {"mean_tokens": 5, "p50_tokens": 5}}, "prompt.mean_tokens"),
        ({"kind": "poisson", "prompt": {"p50_tokens": 5, "p95_tokens": 4}}, "prompt.p95_tokens"),
        ({"kind": "poisson", "prompt": {"p50_tokens": 5}}, "prompt.p50_tokens"),
        ({"kind": "poisson", "prompt": {"mean_tokens": 5, "min_tokens": 9, "max_tokens": 8}}, "prompt.max_tokens"),
        ({"kind": "trace"}, "file"),
        ({}, "kind"),
        ([], ""),
    ],
)
def test_an_invalid_generator_is_rejected(settings_: Any, path: str) -> None:
    with pytest.raises(ConfigError) as raised:
        read_kind(GENERATORS, settings_)
    assert [p.path for p in raised.value.problems] == [path]


@pytest.mark.parametrize("kind", GENERATORS)
def test_every_generator_is_documented(kind: str) -> None:
    assert f"| `{kind}` |" in (Path(__file__).parents[4] / "docs/how-to/traffic.md").read_text()
    assert list(GENERATORS) == sorted(GENERATORS)


@pytest.mark.parametrize("kind", SYNTHETIC)
def test_generated_traffic_has_its_kind_as_name_and_its_settings_as_origin(kind: str) -> None:
    requests = SYNTHETIC[kind].requests(RNG, 0.0, 10.0)
    assert requests.name == kind
    assert "gap_cv=1.0" in requests.origin


def test_chunks_are_a_whole_number_of_seconds() -> None:
    assert CHUNK_S % 1 == 0
