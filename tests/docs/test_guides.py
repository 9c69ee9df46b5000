"""The code of the guides to extend Forescale works in a copy of the packages."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from threading import Thread
from typing import Final

import pytest

from tests.docs.test_code_blocks import ROOT, blocks

GUIDES: Final = {
    "add-a-policy": ("policies/recommend/registry.py", "POLICIES: Final = {\n"),
    "add-a-source": ("scaler/registry.py", '    "source",\n    {\n'),
    "add-an-actuator": ("scaler/registry.py", '    "pool",\n    {\n'),
}
"""Each guide's registry, and the line after which its entry may stand."""
ENTRY: Final = re.compile(r' +"\w+": \S')
TIMEOUT_S: Final = 300.0


class Services(BaseHTTPRequestHandler):
    """The ticket service and the fleet service of the guides."""

    def do_GET(self) -> None:
        """Answer with three open tickets, and a pool of three replicas of which two are ready."""
        body = json.dumps({"open": 3, "desired": 3, "ready": 2}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("ETag", '"1"')
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


@pytest.fixture
def services() -> Iterator[str]:
    """Yield the address of the services."""
    with HTTPServer(("127.0.0.1", 0), Services) as server:
        Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def extended(tmp_path: Path) -> Path:
    """Return a copy of the packages with the code of the three guides."""
    for package in ("policies", "scaler"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    for guide, (registry, start) in GUIDES.items():
        for block in blocks(ROOT / f"docs/how-to/{guide}.md"):
            if block.file:
                (tmp_path / block.file).write_text(block.text)
            elif block.language == "python" and ENTRY.match(block.text):
                source = (tmp_path / registry).read_text()
                assert start in source
                (tmp_path / registry).write_text(source.replace(start, start + block.text))
    return tmp_path


@pytest.mark.slow
def test_the_source_and_the_pool_of_the_guides_are_read(extended: Path, services: str) -> None:
    workload = {
        "workload": "chat",
        "max_replicas": 4,
        "sources": {"tickets": {"kind": "ticket", "url": f"{services}/open"}},
        "policies": {"size": {"kind": "queue_depth", "target_per_replica": 1, "count": ["visible"]}},
        "pools": {"fleet": {"kind": "fleet", "url": f"{services}/pools/chat"}},
    }
    (extended / "chat.yaml").write_text(json.dumps(workload))
    output = run(extended, "scaler.cli", "check", "--live", "chat.yaml")
    assert "visible 3" in output
    assert "3 desired, 2 ready" in output


@pytest.mark.slow
def test_the_policy_of_the_guide_keeps_the_contract(extended: Path) -> None:
    (subclass,) = (b for b in blocks(ROOT / "docs/how-to/add-a-policy.md") if "PolicyContract" in b.text)
    imports = "from policies.recommend.waiting import Waiting\nfrom tests.contracts.policy import PolicyContract\n\n\n"
    (extended / "test_waiting.py").write_text(imports + subclass.text)
    run(extended, "pytest", "-q", "-p", "no:cacheprovider", "test_waiting.py")
    assert "kind: waiting" in run(extended, "scaler.cli", "schema", "--example")


def run(folder: Path, module: str, *arguments: str) -> str:
    """Run a module in the copy and return its output; it succeeds."""
    done = subprocess.run(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env={**os.environ, "PYTHONPATH": f"{folder}:{ROOT}"},
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout
