"""Mutated inputs by kind and seed, with verdicts, and the corpus of inputs that once failed."""

from __future__ import annotations

import importlib
import traceback
from dataclasses import replace
from pathlib import Path
from typing import Any, Final

from tests.fuzz.rng import Rng
from tests.fuzz.sequences.guard import Runaway
from tests.fuzz.workers import Verdict

KINDS: Final = ("config", "prometheus", "exposition", "kube_watch", "cloud", "journal", "trace", "manifest")
CORPUS: Final = Path(__file__).parent / "corpus"
SHOWN: Final = 1500
"""Maximum bytes of an input, and characters of a traceback, in a message."""


def case(kind: str) -> str:
    """Return the case name of a kind's mutations."""
    return f"tests.fuzz.mutations:mutation:{kind}"


def mutation(kind: str, seed: int) -> Verdict:
    """Create the input of a seed and judge its handling."""
    return judged(kind, seed, input_of(kind, seed))


def input_of(kind: str, seed: int) -> bytes:
    """Return the input of a seed."""
    data = _module(kind).mutated(Rng(seed, f"mutation/{kind}"))
    assert isinstance(data, bytes)
    return data


def judged(kind: str, seed: int, data: bytes) -> Verdict:
    """Judge the handling of an input."""
    try:
        problem = str(_module(kind).check(data))
    except (Exception, Runaway, SystemExit) as e:  # noqa: BLE001 - an unexpected exception is what is looked for
        details = f"{e!r}"[:SHOWN] + "\n" + traceback.format_exc()[-SHOWN:]
        return Verdict(case(kind), seed, f"{kind}: {type(e).__name__} in {_place(e)}", details, {kind: 1})
    return Verdict(case(kind), seed, f"{kind}: wrong result" if problem else "", problem, {kind: 1})


def corpus(kind: str) -> list[Path]:
    """Return the files of a kind's corpus."""
    return sorted(path for path in (CORPUS / kind).glob("*") if path.is_file())


def file(path: str, _seed: int = 0) -> Verdict:
    """Judge a file of the corpus. Its folder is the kind."""
    verdict = judged(Path(path).parent.name, 0, Path(path).read_bytes())
    return replace(verdict, case=Path(path).name)


def input_text(kind: str, seed: int) -> str:
    """Return the input of a seed as text, truncated."""
    data = input_of(kind, seed)
    excerpt = data[:SHOWN].decode(errors="backslashreplace")
    return f"{len(data):,} bytes of {kind}:\n{excerpt}" + ("\n..." if len(data) > SHOWN else "")


def _module(kind: str) -> Any:
    return importlib.import_module(f"tests.fuzz.kinds.{kind}")


def _place(error: BaseException) -> str:
    """Return the innermost function of the project in the traceback."""
    names = [
        f"{Path(frame.filename).stem}.{frame.name}"
        for frame in traceback.extract_tb(error.__traceback__)
        if any(part in frame.filename for part in ("/scaler/", "/policies/", "/simulators/"))
        and "/tests/" not in frame.filename
    ]
    return names[-1] if names else "no function of ours"
