"""Random worlds against the invariants: ``python -m tests.fuzz.worlds [--seed N | --first N --worlds N --jobs N]``."""

from __future__ import annotations

import argparse
import functools
import multiprocessing
import signal
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

from scaler.clock import stopwatch_s
from tests.fuzz.worlds.search import Verdict, judge
from tests.fuzz.worlds.world import draw

WORLDS: Final = 200
PROGRESS_S: Final = 10.0
"""Time between two lines of progress."""
CHUNK_WORLDS: Final = 8
"""Maximum number of worlds given to a process at a time."""


def arguments() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m tests.fuzz.worlds", description=__doc__)
    parser.add_argument("--seed", type=int, metavar="N", help="this world only")
    parser.add_argument(
        "--keep", type=Path, metavar="DIR", help="with --seed: write the world's files there, and run it"
    )
    parser.add_argument("--first", type=int, default=1, metavar="N", help="the first seed (default: %(default)s)")
    parser.add_argument("--worlds", type=int, default=WORLDS, metavar="N", help="how many (default: %(default)s)")
    parser.add_argument("--jobs", type=int, default=1, metavar="N", help="processes at once (default: %(default)s)")
    return parser


def main(arguments_given: Sequence[str] | None = None) -> int:
    """Return 0 if all invariants hold, 1 if one fails, 2 for wrong arguments, 130 when interrupted."""
    parser = arguments()
    args = parser.parse_args(arguments_given)
    if args.keep and args.seed is None:
        parser.error("--keep is about one world: name its --seed")
    if args.worlds < 1 or args.jobs < 1 or min(args.first, args.seed or 0) < 0:
        parser.error("--worlds and --jobs must be 1 or more, and seeds 0 or more")
    seeds = range(args.first, args.first + args.worlds) if args.seed is None else range(args.seed, args.seed + 1)
    if args.keep:
        args.keep.mkdir(parents=True, exist_ok=True)
        _log(f"the world is in {draw(args.seed).write(args.keep)}")
    return _search(seeds, args.jobs)


def _search(seeds: range, jobs: int) -> int:
    started = reported = stopwatch_s()
    verdicts: list[Verdict] = []
    code = 0
    try:
        _log(f"seeds {seeds[0]} to {seeds[-1]}")
        for verdict in _verdicts(seeds, jobs):
            verdicts.append(verdict)
            if verdict.failure is not None:
                sys.stdout.write(f"{verdict.failure}\n")
                sys.stdout.flush()
            if stopwatch_s() - reported > PROGRESS_S:
                reported = stopwatch_s()
                _log(_summary(verdicts, reported - started, len(seeds)))
    except KeyboardInterrupt:
        _log("interrupted")
        code = 130
    _log(_summary(verdicts, stopwatch_s() - started, len(seeds)))
    return code or int(any(v.failure is not None for v in verdicts))


def _verdicts(seeds: range, jobs: int) -> Iterator[Verdict]:
    """Yield the verdicts in the order of the seeds, judged in up to `jobs` processes."""
    if min(jobs, len(seeds)) <= 1:
        yield from map(judge, seeds)
        return
    ignore_interrupts = functools.partial(signal.signal, signal.SIGINT, signal.SIG_IGN)  # this process handles Ctrl-C
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(min(jobs, len(seeds)), mp_context=context, initializer=ignore_interrupts) as pool:
        try:
            yield from pool.map(judge, seeds, chunksize=min(CHUNK_WORLDS, -(-len(seeds) // jobs)))
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


def _summary(verdicts: Sequence[Verdict], duration_s: float, worlds: int) -> str:
    failed = [v.seed for v in verdicts if v.failure is not None]
    ticks, shrank = sum(v.ticks for v in verdicts), sum(v.shrank for v in verdicts)
    seeds = f": seeds {', '.join(map(str, failed))}" if failed else ""
    each = f", {duration_s / len(verdicts):.2f} s a world" if verdicts else ""
    return f"{len(verdicts)} of {worlds} worlds, {ticks:,} ticks ({shrank:,} shrank), {len(failed)} failed{seeds}{each}"


def _log(line: str) -> None:
    sys.stderr.write(f"swarm: {line}\n")
    sys.stderr.flush()


if __name__ == "__main__":
    sys.exit(main())
