"""Mutated inputs of every protocol, each kind in its own process; and the corpus of inputs that once failed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.fuzz import mutate, mutations
from tests.fuzz.rng import Rng
from tests.fuzz.workers import describe_failures, judged
from tests.laws import QUICK

COUNTS = {
    "config": 100,
    "prometheus": 150,
    "exposition": 40,
    "kube_watch": 120,
    "cloud": 100,
    "journal": 40,
    "trace": 150,
    "manifest": 80,
}
"""Inputs of each kind; more in `make fuzz`."""


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutations.KINDS)
def test_mutated_inputs_cause_no_failure(kind: str) -> None:
    count = COUNTS[kind] // 5 if QUICK else COUNTS[kind]
    verdicts = list(judged(((mutations.case(kind), seed) for seed in range(1, 1 + count)), jobs=1))
    assert len(verdicts) == count
    assert not any(v.failure for v in verdicts), describe_failures(verdicts)


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutations.KINDS)
def test_corpus_inputs_cause_no_failure(kind: str) -> None:
    files = mutations.corpus(kind)
    assert files, f"tests/fuzz/corpus/{kind} is empty"
    verdicts = list(judged(((f"tests.fuzz.mutations:file:{path}", 0) for path in files), jobs=1))
    assert not any(v.failure for v in verdicts), describe_failures(verdicts)


def test_every_kind_has_a_count_and_small_corpus_files() -> None:
    assert COUNTS.keys() == set(mutations.KINDS)
    files: list[Path] = [path for kind in mutations.KINDS for path in mutations.corpus(kind)]
    assert max(path.stat().st_size for path in files) <= 300_000


@pytest.mark.slow
@pytest.mark.parametrize("kind", mutations.KINDS)
def test_seed_reproduces_the_same_input(kind: str) -> None:
    assert mutations.input_of(kind, 5) == mutations.input_of(kind, 5)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(20))
def test_mutated_values_can_be_mutated_again(seed: int) -> None:
    rng = Rng(seed, "again")
    for strange in mutate.STRANGE:
        value = strange
        for _ in range(5):
            value = mutate.tree(rng, [value], changes=20)
