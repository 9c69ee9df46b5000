"""Random inputs against the laws: ``python -m tests.fuzz [--sequences N --mutations N --jobs N]``.

Decision sequences first, then mutations of every kind. One seed again, as a story: ``--seed N [--smaller]``; one
mutation again: ``--seed N --kind KIND``.
"""

from __future__ import annotations

import argparse
import itertools
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Final

from scaler.clock import stopwatch_s
from tests.fuzz import mutations
from tests.fuzz.sequences import case as decisions
from tests.fuzz.workers import Case, Verdict, judge, judged

SEQUENCES: Final = 20_000
MUTATIONS: Final = 20_000
PROGRESS_S: Final = 10.0
MAX_SHOWN: Final = 60
"""Maximum number of failures shown in full. The summary counts all."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz", description=__doc__)
    count = "how many (default: %(default)s)"
    parser.add_argument("--seed", type=int, metavar="N", help="this seed only, told tick by tick")
    parser.add_argument("--kind", choices=[*mutations.KINDS], help="with --seed: the mutation of this kind")
    parser.add_argument("--smaller", action="store_true", help="with --seed: drop ticks and faults while it fails")
    parser.add_argument("--first", type=int, default=1, metavar="N", help="the first seed (default: %(default)s)")
    parser.add_argument("--sequences", type=int, default=SEQUENCES, metavar="N", help=f"decision sequences, {count}")
    parser.add_argument("--mutations", type=int, default=MUTATIONS, metavar="N", help=f"mutated inputs, {count}")
    parser.add_argument("--for", dest="for_s", type=float, metavar="SECONDS", help="end after this time")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at once (default: %(default)s)")
    return parser


def main(argv: Sequence[str] | None = None) -> int:
    """Return 0 if all laws hold, 1 if one fails, 2 for wrong arguments, 130 when interrupted."""
    parser = arguments()
    args = parser.parse_args(argv)
    if args.jobs < 1 or min(args.sequences, args.mutations, args.first, args.seed or 0) < 0:
        parser.error("--jobs must be 1 or more; counts and seeds 0 or more")
    if args.seed is None and (args.kind or args.smaller):
        parser.error("--kind and --smaller are about one case: give its --seed")
    if args.seed is not None:
        return _run_one(args.seed, args.kind, smaller=args.smaller)
    return _search(_cases(args.first, args.sequences, args.mutations), args.sequences + args.mutations, args)


def _run_one(seed: int, kind: str | None, *, smaller: bool) -> int:
    if kind is not None:
        verdict = judge(mutations.case(kind), seed)
        sys.stdout.write(mutations.input_text(kind, seed) + f"\n{verdict.failure or 'it holds'}: {verdict.details}\n")
        return int(bool(verdict.failure))
    for line in decisions.story(seed, smaller=smaller):
        sys.stdout.write(line + "\n")
    return int(bool(decisions.sequence(seed).failure))


def _cases(first: int, sequences: int, mutated: int) -> Iterator[Case]:
    """Yield sequences and mutations alternately, so that a run that ends early has both."""
    kinds = itertools.cycle(mutations.KINDS)
    seeds = range(first, first + mutated)
    sequence_cases = ((decisions.CASE, seed) for seed in range(first, first + sequences))
    mutation_cases = ((mutations.case(kind), seed) for kind, seed in zip(kinds, seeds, strict=False))
    for pair in itertools.zip_longest(sequence_cases, mutation_cases):
        yield from (case for case in pair if case is not None)


def _search(cases: Iterator[Case], total: int, args: argparse.Namespace) -> int:
    started_s = reported_s = stopwatch_s()
    verdicts: list[Verdict] = []
    code = 0
    try:
        for verdict in judged(_until(cases, started_s, args.for_s), args.jobs):
            verdicts.append(verdict)
            failed = sum(bool(v.failure) for v in verdicts)
            if verdict.failure and failed <= MAX_SHOWN:
                sys.stdout.write(f"{verdict.case} seed {verdict.seed}: {verdict.failure}: {verdict.details}\n\n")
                sys.stdout.flush()
            if stopwatch_s() - reported_s > PROGRESS_S:
                reported_s = stopwatch_s()
                rate = len(verdicts) / (reported_s - started_s)
                _log(f"{len(verdicts):,} of {total:,}, {failed} failed, {rate:.1f} a second")
    except KeyboardInterrupt:
        _log("interrupted")
        code = 130
    _summary(verdicts, stopwatch_s() - started_s)
    return code or int(any(v.failure for v in verdicts))


def _until(cases: Iterator[Case], started_s: float, for_s: float | None) -> Iterator[Case]:
    return itertools.takewhile(lambda _: for_s is None or stopwatch_s() - started_s < for_s, cases)


def _summary(verdicts: Sequence[Verdict], duration_s: float) -> None:
    by_case = Counter(v.case for v in verdicts)
    counts: Counter[str] = Counter()
    failed: dict[tuple[str, str], list[int]] = {}
    for verdict in verdicts:
        counts.update(verdict.counts)
        if verdict.failure:
            failed.setdefault((verdict.case, verdict.failure), []).append(verdict.seed)
    _log(f"{len(verdicts):,} cases in {duration_s:.0f} s")
    for case, n in sorted(by_case.items()):
        _log(f"  {n:,} {case.rpartition('.')[2]}")
    _log("  " + ", ".join(f"{n:,} {name}" for name, n in sorted(counts.items())))
    for (case, failure), seeds in sorted(failed.items(), key=lambda item: -len(item[1])):
        kind = f" --kind {case.rpartition(':')[2]}" if case != decisions.CASE else ""
        examples = ", ".join(map(str, seeds[:8])) + (" ..." if len(seeds) > 8 else "")
        _log(
            f"  {len(seeds)} failed: {failure}: seeds {examples} (again: python -m tests.fuzz --seed {seeds[0]}{kind})"
        )


def _log(line: str) -> None:
    sys.stderr.write(f"fuzz: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
