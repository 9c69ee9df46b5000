"""Configuration files: any content gives a configuration or a `ConfigError` with readable problems."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any, Final

import yaml

from scaler.config.load import load
from scaler.config.problems import ConfigError
from tests.fuzz.kinds.readings import encoding_problem
from tests.fuzz.mutate import DEPTH, DIGITS, text, tree
from tests.fuzz.rng import Rng
from tests.fuzz.sequences.guard import bounded

ROOT: Final = Path(__file__).parents[3] / "config"
FOLDERS: Final = ("example", "peers", "quickstart", "scenarios", "workloads")
CPU_S: Final = 30.0
MAX_CHARS: Final = 4000
"""Maximum characters of one problem."""
TOKENS: Final = (
    b"~:",
    b"1.5: x",
    b"? [a, b]",
    b"<<: *a",
    b"&a [",
    b"*a",
    b"!!python/object:os.system x",
    b"!!binary aGk=",
    b"!!set {a}",
    b"!!timestamp 2026-01-01",
    b"---\n",
    b"...\n",
    b"\t",
    b"\x00",
    b"\xff",
    b'"\\ud800"',
    b"010",
    b"1:30",
    b".inf",
    b".nan",
    b"-.inf",
    b"1e400",
    DIGITS.encode(),
    b"0x" + b"f" * 300,
    b"yes",
    b"null",
    b"[" * 200,
    b"{a: " * 200,
    b"- " * 200,
    b"|\n",
    b">\n",
    b"%YAML 9.9\n",
    b"\xef\xbb\xbf",
    b"\xc2\x85",
    b"$" + b"{HOME}",
    b"{env: NO_SUCH_NAME}",
    b"#",
    b": : :",
    b"'",
    b'"',
)
ALIASES: Final = 24


def bombs() -> tuple[bytes, ...]:
    """Return texts that exhaust a parser's stack, memory or time."""
    laughs = b"a0: &a0 [x, x, x, x]\n" + b"".join(
        b"a%d: &a%d [%s]\n" % (k, k, b", ".join([b"*a%d" % (k - 1)] * 4)) for k in range(1, ALIASES)
    )
    many = b"workload: a\n" + b"".join(b"key%d: 1\n" % k for k in range(2000))
    return (
        b"[" * DEPTH,
        b"{a: " * DEPTH,
        b"- " * DEPTH,
        b"a:\n" + b"".join(b" " * k + b"b:\n" for k in range(700)),
        laughs,
        many,
    )


@functools.cache
def _files() -> tuple[bytes, ...]:
    return tuple(path.read_bytes() for name in FOLDERS for path in sorted((ROOT / name).glob("*.yaml")))


def mutated(rng: Rng) -> bytes:
    if rng.happens(0.02):
        return rng.choice(bombs())
    data = rng.choice(_files())
    if rng.happens(0.6):
        documents = [tree(rng, document) for document in yaml.safe_load_all(data)]
        data = yaml.safe_dump_all(documents, allow_unicode=True, sort_keys=False).encode(errors="surrogatepass")
        return text(rng, data, TOKENS) if rng.happens(0.2) else data
    return text(rng, data, TOKENS)


def check(data: bytes) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "fuzz.yaml"
        path.write_bytes(data)
        try:
            with bounded(cpu_s=CPU_S):
                load([path])
        except ConfigError as e:
            return next((wrong for problem in e.problems if (wrong := readable(problem))), "")
    return ""


def readable(problem: Any) -> str:
    """Describe why a problem is not readable; empty if it is."""
    text_of_problem = str(problem)
    if problem.line < 1 or not problem.rule.strip():
        return f"a problem without a line or a rule: {problem!r}"
    if len(text_of_problem) > MAX_CHARS or not text_of_problem.isprintable():
        return f"a problem that is not one readable line: {text_of_problem[:200]!r}"
    return encoding_problem(text_of_problem)
