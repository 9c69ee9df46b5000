"""``forescale run``: runs the daemon, and prints a summary when it ends."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

from policies.model import Tick
from policies.model.spec import WorkloadSpec
from scaler.app import App, RunOptions
from scaler.config.daemon import DaemonSpec
from scaler.daemon import run
from scaler.journal.explain import paragraphs, shadow_paragraphs
from scaler.ports import Misconfigured
from scaler.shadow.counterfactual import ShadowTick, ShadowTotals
from scaler.telemetry.log import Form, can_redraw, configure, form_on
from scaler.telemetry.run_summary import RunSummary

if TYPE_CHECKING:
    from scaler.telemetry.terminal.live_view import LiveView


class Output:
    """The output of a run: log lines or the live view, explanations, and the summary."""

    def __init__(self, args: argparse.Namespace) -> None:
        self._args = args
        self._view: LiveView | None = None
        self.summary = RunSummary()
        self.set_form(DaemonSpec())

    def set_form(self, spec: DaemonSpec) -> None:
        """Configure the log by the options, else by the daemon's settings. Raises `Misconfigured`."""
        form = log_form(self._args, spec)
        configure(form)
        self._view = None
        if form == "live":
            from scaler.telemetry.terminal.live_view import LiveView  # noqa: PLC0415 - only a terminal needs rich

            self._view = LiveView(sys.stderr)

    def on_tick(self, tick: Tick, spec: WorkloadSpec) -> None:
        self.summary.add(tick, spec)
        if self._view is not None:
            self._view.observe(tick, spec)
        if self._args.once and not self._args.json:
            print("\n".join(paragraphs(tick)), end="\n\n")

    def on_shadow(self, shadow_tick: ShadowTick, totals: ShadowTotals) -> None:
        self.summary.shadows[shadow_tick.tick.workload] = totals
        if self._args.once and not self._args.json:
            print("\n".join(shadow_paragraphs(shadow_tick)), end="\n\n")

    @contextmanager
    def running(self, app: App, address: str) -> Iterator[None]:
        """Print the dashboard's address, and show the live view while the workloads run."""
        print(f"Forescale is running, dashboard at {address} (Ctrl-C stops it)", file=sys.stderr, flush=True)
        speed = app.config.daemon.clock.speed
        note = "" if speed == 1 else f"time runs {speed:g} times as fast"
        view = self._view
        with nullcontext() if view is None else view.shown(address, note, app.workloads, app.tasks):
            yield
        self.summary.add_failed(app.faults.core)

    def print_summary(self) -> None:
        if self._args.json:
            print(json.dumps(self.summary.as_dict()))
        elif not self._args.once:
            print(f"\n{self.summary.text()}")


def log_form(args: argparse.Namespace, spec: DaemonSpec) -> Form:
    """Return the form of the log by the options, else by `daemon.log`, else by the terminal.

    Raises `Misconfigured` for a live view without a terminal.
    """
    if args.log == "live" and not can_redraw(sys.stderr, {**os.environ, "CI": ""}):
        raise Misconfigured("--log live: standard error is no terminal with cursor control. Use --log console or json")
    form: Form = (
        args.log
        or ("json" if args.json else None)
        or (None if spec.log == "auto" else spec.log)
        or form_on(sys.stderr, os.environ)
    )
    return "console" if form == "live" and args.once else form


def command(args: argparse.Namespace) -> int:
    output = Output(args)
    options = RunOptions(
        paths=[Path(p) for p in args.config],
        dry_run=args.dry_run,
        once=args.once,
        for_s=args.for_s,
        listen=args.listen,
        shadows=[Path(p) for p in args.shadow],
        on_load=output.set_form,
        on_tick=output.on_tick,
        on_shadow=output.on_shadow,
        running=output.running,
    )
    asyncio.run(run(options))
    output.print_summary()
    return 0
