"""Every code block of README and docs runs: configurations load, and commands succeed.

A block that cannot run on any machine follows a comment with the reason: ``<!-- not run: needs a cluster -->``.
"""

from __future__ import annotations

import json
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import pytest
import yaml

from scaler.config.load import load

ROOT: Final = Path(__file__).parents[2]
PAGES: Final = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
BLOCK: Final = re.compile(r"(?:<!-- not run: ([^>]+) -->\n)?^( *)```(\w*)[^\n]*\n(.*?)^ *```", re.MULTILINE | re.DOTALL)
SHOWN: Final = {"", "text", "promql"}
"""Languages of blocks that show output."""
RUN_BY_CI: Final = {"make"}
"""Commands that `.ci/run` executes."""
COMMAND_TIMEOUT_S: Final = 300.0
BASE: Final[Mapping[str, Any]] = {
    "workload": "chat",
    "max_replicas": 20,
    "sources": {
        "queue": {"kind": "sqs", "queue_url": "https://sqs.us-east-1.amazonaws.com/123456789012/prompts"},
        "engines": {
            "kind": "prometheus",
            "url": "http://prometheus:9090",
            "preset": "vllm",
            "window_s": 60,
            "read": ["running", "waiting", "requests_per_s", "prompt_tokens_per_s", "generation_tokens_per_s"],
        },
    },
    "policies": {"size": {"kind": "static", "replicas": 2}},
    "pools": {"gpus": {"kind": "kubernetes", "name": "vllm", "namespace": "llm", "price_usd_per_hour": 6.88}},
}
"""A workload whose keys a fragment of a configuration replaces."""


class Block(NamedTuple):
    """A code block, and why it is not run; empty where it is."""

    language: str
    text: str
    reason: str


def blocks(page: Path) -> Iterator[Block]:
    """Yield the code blocks of a page."""
    for reason, indent, language, text in BLOCK.findall(page.read_text(encoding="utf-8")):
        yield Block(language, re.sub(f"^{indent}", "", text, flags=re.MULTILINE), reason)


def named(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_configurations_load(page: Path, tmp_path: Path) -> None:
    for number, block in enumerate(blocks(page)):
        if block.language == "yaml" and not block.reason:
            for document in yaml.safe_load_all(block.text):
                folder = tmp_path / str(number)
                folder.mkdir(exist_ok=True)
                is_daemon = "daemon" in document
                (folder / "daemon.yaml").write_text(json.dumps({"daemon": document["daemon"] if is_daemon else {}}))
                (folder / "workload.yaml").write_text(json.dumps(BASE if is_daemon else whole(document)))
                load([folder])


def whole(document: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return a fragment of a workload with the missing keys, and the pools that its headroom tiers serve."""
    pools = document.get("pools", BASE["pools"])
    serving = {name: {**BASE["pools"]["gpus"], "lead_time_s": 600} for p in pools.values() if (name := p.get("serves"))}
    return {**BASE, **document, "pools": {**serving, **pools}}


@pytest.mark.slow
@pytest.mark.parametrize("page", PAGES, ids=named)
def test_commands_succeed(page: Path, tmp_path: Path) -> None:
    (tmp_path / "config").symlink_to(ROOT / "config")
    for block in blocks(page):
        if block.language in {"console", "bash", "shell"} and not block.reason:
            for command in commands(block.text):
                execute(command, tmp_path)


def commands(text: str) -> Iterator[str]:
    """Yield the commands of a block: the lines that begin with a prompt, with their continuations."""
    for line in text.replace("\\\n", " ").splitlines():
        if line.startswith("$ "):
            yield line.removeprefix("$ ").split(" #")[0].strip()


def execute(command: str, folder: Path) -> None:
    """Run a command; it succeeds."""
    arguments = shlex.split(command)
    if arguments[0] in RUN_BY_CI:
        return
    if arguments[0] == "forescale":
        command = f"{shlex.quote(sys.executable)} -m scaler.cli {command.removeprefix('forescale')}"
    done = subprocess.run(
        ["bash", "-c", command], cwd=folder, capture_output=True, text=True, timeout=COMMAND_TIMEOUT_S, check=False
    )
    assert done.returncode == 0, f"$ {command}\n{done.stdout}{done.stderr}"


@pytest.mark.parametrize("page", PAGES, ids=named)
def test_blocks_have_a_language_that_is_tested_or_shown(page: Path) -> None:
    """A block is a configuration, commands with prompts, Python, or output that is shown."""
    for block in blocks(page):
        assert block.language in {"yaml", "console", "python", "json", "diff", "toml"} | SHOWN, block
        if block.language == "console":
            assert block.text.startswith("$ "), block
