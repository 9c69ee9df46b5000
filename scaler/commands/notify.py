"""``forescale notify``: sends a test notice to each destination."""

from __future__ import annotations

import argparse
import asyncio
import json
from pathlib import Path

from scaler.config.load import load
from scaler.ports import Misconfigured
from scaler.registry import did_you_mean
from scaler.telemetry.notices.delivery import Destination, try_all
from scaler.telemetry.notices.message import trial_message
from scaler.telemetry.notices.service import open_destinations


def command(args: argparse.Namespace) -> int:
    spec = load(Path(p) for p in args.config).daemon.notices
    if not spec.destinations:
        raise Misconfigured("daemon.notices.destinations is empty; add a destination (docs/how-to/notices.md)")
    if args.to is not None and args.to not in spec.destinations:
        known = list(spec.destinations)
        hint = did_you_mean(args.to, known) or f"the destinations are {', '.join(known)}"
        raise Misconfigured(f"--to: {args.to!r} is not a destination; {hint}")
    reasons = asyncio.run(_send(open_destinations(spec), args.to, spec.dashboard_url))
    if args.json:
        print(json.dumps([{"destination": n, "sent": not reason, "error": reason} for n, reason in reasons.items()]))
    else:
        for name, reason in reasons.items():
            print(f"FAIL {name}: {reason}" if reason else f"ok   {name}: sent")
    return 1 if any(reasons.values()) else 0


async def _send(destinations: list[Destination], only: str | None, dashboard_url: str | None) -> dict[str, str]:
    """Return why the message did not reach each destination, empty where it did."""
    chosen = [d for d in destinations if only in {None, d.name}]
    reasons = await try_all(chosen, trial_message(dashboard_url))
    return {destination.name: reason for destination, reason in zip(chosen, reasons, strict=True)}
