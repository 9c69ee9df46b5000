"""Checks of the container image that need no container engine."""

from __future__ import annotations

import itertools
import re
import subprocess
from pathlib import Path

from tests.release.versions import IMAGE, ROOT, VERSION

DOCKERFILE = (ROOT / "Dockerfile").read_text()
LINES = [line.strip() for line in DOCKERFILE.replace("\\\n", " ").splitlines() if line and not line.startswith("#")]
LOCK = (ROOT / "requirements/image.txt").read_text()


def test_copied_paths_exist_and_are_not_dockerignored() -> None:
    allowed = {line[1:] for line in (ROOT / ".dockerignore").read_text().splitlines() if line.startswith("!")}
    copied = [
        word for line in LINES if line.startswith("COPY ") and "--from" not in line for word in line.split()[1:-1]
    ]
    assert copied
    for path in copied:
        assert (ROOT / path).exists(), path
        assert path in allowed, path


def test_image_user_equals_the_manifest_user() -> None:
    users = [line.split()[1] for line in LINES if line.startswith("USER ")]
    manifest = (ROOT / "config/deploy/kubernetes.yaml").read_text()
    user = re.search(r"runAsUser: (\d+)", manifest)
    assert user
    assert users == [f"{user[1]}:{user[1]}"]
    assert user[1] != "0"


def test_base_image_is_pinned_by_its_digest() -> None:
    (base,) = [line.removeprefix("ARG BASE=") for line in LINES if line.startswith("ARG BASE=")]
    assert re.fullmatch(r"docker\.io/library/python:3\.13-slim@sha256:[0-9a-f]{64}", base)
    assert [line.split()[1] for line in LINES if line.startswith("FROM ")] == ["${BASE}", "${BASE}"]


def made(target: str, folder: Path) -> list[str]:
    """Return the arguments that a make target gives to a fake container engine."""
    engine = folder / "docker"
    engine.write_text(f'#!/bin/sh\nprintf "%s\\n" "$@" > {folder}/arguments\n')
    engine.chmod(0o755)
    env = {"PATH": f"{folder}:/usr/bin:/bin"}
    subprocess.run(["make", target], cwd=ROOT, env=env, check=True, capture_output=True)
    return (folder / "arguments").read_text().splitlines()


def test_make_image_builds_the_versioned_image(tmp_path: Path) -> None:
    assert made("image", tmp_path) == ["build", "--tag", IMAGE, "."]


def test_make_image_push_builds_both_platforms_with_sbom_and_provenance(tmp_path: Path) -> None:
    words = made("image-push", tmp_path)
    options = dict(itertools.pairwise(words))
    assert words[:2] == ["buildx", "build"]
    assert options["--platform"] == "linux/amd64,linux/arm64"
    assert (options["--provenance"], options["--sbom"]) == ("mode=max", "true")
    assert options["--tag"] == IMAGE
    assert f"org.opencontainers.image.version={VERSION}" in words
    assert "--push" in words


def test_every_dependency_is_pinned_by_hash() -> None:
    assert "--require-hashes -r requirements/image.txt" in DOCKERFILE
    pinned = re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==", LOCK, re.MULTILINE)
    assert len(pinned) > 20
    assert len(re.findall(r"--hash=sha256:", LOCK)) >= len(pinned)


def test_image_lock_excludes_simulator_and_development_packages() -> None:
    names = set(re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==", LOCK, re.MULTILINE))
    assert {"aiobotocore", "kubernetes-asyncio", "numpy", "structlog"} <= names
    assert not names & {"numba", "scipy", "pandas", "matplotlib", "pytest", "mypy", "ruff", "moto", "hypothesis"}


def test_all_locks_resolve_the_same_versions() -> None:
    def versions(name: str) -> dict[str, set[str]]:
        by_package: dict[str, set[str]] = {}
        text = (ROOT / f"requirements/{name}.txt").read_text()
        for package, version in re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", text, re.MULTILINE):
            by_package.setdefault(package, set()).add(version)
        return by_package

    dev = versions("dev")
    for name in ("run", "image"):
        for package, version in versions(name).items():
            assert version == dev[package], f"{package} in {name}.txt and dev.txt: run make lock"
