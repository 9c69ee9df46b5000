"""Five hundred random decision sequences against the laws, and tests of the suite itself."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from typing import Any

import pytest

from policies.recommend.registry import POLICIES as REGISTERED
from tests.fuzz.__main__ import main
from tests.fuzz.sequences import case
from tests.fuzz.sequences.draw import draw
from tests.fuzz.sequences.judged import Judged
from tests.fuzz.sequences.laws import LAWS, named
from tests.fuzz.sequences.play import play
from tests.fuzz.sequences.policies import POLICIES
from tests.fuzz.sequences.shrink import shrink
from tests.fuzz.workers import Verdict, describe_failures, judged
from tests.laws import QUICK

CHUNKS = 10
CHUNK = 10 if QUICK else 30


@pytest.mark.slow
@pytest.mark.parametrize("chunk", range(CHUNKS))
def test_sequences_violate_no_law(chunk: int) -> None:
    verdicts = [case.sequence(seed) for seed in range(1 + 50 * chunk, 1 + 50 * chunk + CHUNK)]
    assert not any(v.failure for v in verdicts), describe_failures(verdicts)
    assert sum(v.counts["shrank"] for v in verdicts) > 0


def test_every_registered_policy_is_drawn() -> None:
    assert POLICIES.keys() == REGISTERED.keys()


def test_seed_reproduces_the_same_story() -> None:
    first, second = (play(draw(7), laws=()) for _ in range(2))
    assert [tick for _, tick in first.record] == [tick for _, tick in second.record]
    assert draw(7).ticks == draw(7).ticks
    assert draw(7).ticks != draw(8).ticks


def test_every_law_has_a_docstring_sentence() -> None:
    assert all(named(law)[1].endswith(".") for law in LAWS)
    assert len({law.__name__ for law in LAWS}) == len(LAWS)


def grows_to_three(judged: Judged) -> str | None:
    """No size reaches three."""
    return "three" if (judged.context.decision.target or 0) >= 3 else None


@pytest.mark.slow
def test_shrunk_story_is_smaller_and_violates_the_same_law() -> None:
    seed = next(seed for seed in range(1, 100) if len(draw(seed).ticks) > 10 and _violates(seed))
    story, played = shrink(draw(seed), "grows_to_three", laws=(grows_to_three,), tries=40)
    assert played.violation is not None
    assert played.violation.law == "grows_to_three"
    assert len(story.ticks) < len(draw(seed).ticks)


def _violates(seed: int) -> bool:
    played = play(draw(seed), laws=(grows_to_three,))
    return (
        played.violation is not None and played.violation.law == "grows_to_three" and played.violation.tick_number > 0
    )


def dies(seed: int) -> Verdict:
    """End the process on every second seed, as a fault in a C library does."""
    if seed % 2:
        signal.raise_signal(signal.SIGKILL)
    return Verdict("dies", seed)


@pytest.mark.slow
def test_killed_worker_process_is_a_failure_and_others_continue() -> None:
    cases: Iterator[Any] = (("tests.fuzz.test_decisions:dies", seed) for seed in range(5))
    failures = {v.seed: v.failure for v in judged(cases, jobs=2)}
    assert failures == {0: "", 1: "the_process_lives", 2: "", 3: "the_process_lives", 4: ""}


@pytest.mark.slow
def test_fuzz_command_counts_cases_and_rejects_invalid_arguments(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["--sequences", "2", "--mutations", "2", "--first", "3", "--jobs", "1"]) in {0, 1}
    assert "4 cases in" in capsys.readouterr().err
    with pytest.raises(SystemExit):
        main(["--smaller"])


@pytest.mark.slow
def test_fuzz_command_prints_the_story_of_a_seed(capsys: pytest.CaptureFixture[str]) -> None:
    main(["--seed", "3"])
    output = capsys.readouterr().out
    assert output.startswith("seed 3: ")
    assert "tick 0 at " in output
