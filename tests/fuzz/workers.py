"""Judges seeds in separate processes: one that dies or hangs is a failure, and does not end the others."""

from __future__ import annotations

import contextlib
import importlib
import multiprocessing
import signal
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from multiprocessing.connection import Connection, wait
from typing import Any, Final

from scaler.clock import stopwatch_s

HANG_S: Final = 120.0
"""Real time after which a case counts as hung: cases take less than a second, on a busy machine ten."""
CONTEXT: Final = multiprocessing.get_context("spawn")


@dataclass(frozen=True, slots=True)
class Verdict:
    """Result of one case. `failure` is the violated law or kind of failure, with its `details`; empty if it passed."""

    case: str
    seed: int
    failure: str = ""
    details: str = ""
    counts: dict[str, int] = field(default_factory=dict)


Case = tuple[str, int]
"""The name of a case (``module:function``, with an optional argument after a second colon) and its seed."""


class Worker:
    """A process that judges one case at a time."""

    def __init__(self) -> None:
        self.pipe, child_pipe = CONTEXT.Pipe()
        self.process = CONTEXT.Process(target=_serve, args=(child_pipe,), daemon=True)
        self.process.start()
        child_pipe.close()
        self.case: Case | None = None
        self.started_s = 0.0

    def assign(self, case: Case) -> None:
        self.case, self.started_s = case, stopwatch_s()
        self.pipe.send(case)

    def receive(self) -> Verdict:
        """Return the worker's verdict, or a failure if its process ended."""
        assert self.case is not None
        name, seed = self.case
        try:
            verdict = self.pipe.recv()
            assert isinstance(verdict, Verdict)
        except (EOFError, ConnectionResetError):
            self.process.join()
            code = self.process.exitcode
            exit_reason = signal.Signals(-code).name if code is not None and code < 0 else f"exit code {code}"
            verdict = Verdict(name, seed, "the_process_lives", f"the process ended: {exit_reason}")
        self.case = None
        return verdict

    def hung(self) -> Verdict | None:
        """Return a failure and end the process if the case takes too long."""
        if self.case is None or stopwatch_s() - self.started_s < HANG_S:
            return None
        name, seed = self.case
        self.end()
        return Verdict(name, seed, "it_ends", f"no end within {HANG_S:g} s")

    def end(self) -> None:
        self.process.kill()
        self.process.join()
        self.pipe.close()


def judged(cases: Iterator[Case], jobs: int) -> Iterator[Verdict]:
    """Yield each case's verdict when it is ready, judged in `jobs` processes."""
    workers: list[Worker] = []
    try:
        for _ in range(jobs):
            case = next(cases, None)
            if case is not None:
                workers.append(Worker())
                workers[-1].assign(case)
        while workers:
            yield from _collect(workers, cases)
    finally:
        for worker in workers:
            with contextlib.suppress(OSError, ValueError):
                worker.end()


def _collect(workers: list[Worker], cases: Iterator[Case]) -> Iterator[Verdict]:
    """Wait for verdicts. A worker that is done gets the next case, and one that died is replaced."""
    ready = wait([worker.pipe for worker in workers], timeout=1.0)
    for k, worker in enumerate(list(workers)):
        verdict = worker.receive() if worker.pipe in ready else worker.hung()
        if verdict is None:
            continue
        case = next(cases, None)
        if not worker.process.is_alive() and case is not None:
            worker = workers[k] = Worker()  # noqa: PLW2901 - the dead one is replaced in its place
        if case is not None:
            worker.assign(case)
        yield verdict
    workers[:] = [worker for worker in workers if worker.case is not None]


def _serve(pipe: Connection) -> None:
    """Judge the cases from the pipe until it closes. The parent process handles Ctrl-C."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    while True:
        try:
            name, seed = pipe.recv()
        except EOFError:
            return
        pipe.send(judge(name, seed))


def judge(name: str, seed: int) -> Verdict:
    """Judge one case in this process."""
    module, function, *more = name.split(":")
    verdict: Any = getattr(importlib.import_module(module), function)(*more, seed)
    assert isinstance(verdict, Verdict)
    return verdict


def describe_failures(verdicts: Sequence[Verdict]) -> str:
    """Return the failures as text, one line each."""
    failed = [v for v in verdicts if v.failure]
    return "\n".join(f"{v.case} seed {v.seed}: {v.failure}: {v.details}" for v in failed)
