"""The version comes from pyproject.toml, and every image reference names its registry."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path
from typing import Final

import pytest
import yaml

from tests.release.versions import REPOSITORY, ROOT, VERSION, tracked

TEXTS: Final = ("*.yaml", "*.yml", "*.md", "*.tpl", "Dockerfile", "Makefile")
IMAGE_KEY: Final = re.compile(r"^\s*(?:- )?\"?image\"?: *\"?([^\s\"{}]+)\"?(?: *#.*)?$", re.MULTILINE)
REFERENCE: Final = re.compile(rf"{re.escape(REPOSITORY)}(?::|, newTag: )([0-9][\w.]*)")


def images(root: Path) -> dict[Path, list[str]]:
    """Return the values of the keys `image` in configuration and documentation."""
    files = [file for file in tracked(*TEXTS) if file.parts[0] in {"config", "docs"}]
    return {file: IMAGE_KEY.findall((root / file).read_text()) for file in files}


def wrong_versions(root: Path, version: str) -> list[str]:
    """Return the places that name another version of Forescale than `version`."""
    found = []
    for file in tracked(*TEXTS):
        found += [f"{file}: {tag}" for tag in REFERENCE.findall((root / file).read_text()) if tag != version]
    chart = yaml.safe_load((root / "config/deploy/helm/forescale/Chart.yaml").read_text())
    gateway = yaml.safe_load((root / "config/deploy/helm/examples/gateway/Chart.yaml").read_text())
    tutorial = (root / "docs/tutorials/quickstart.md").read_text()
    versions = {
        "chart": chart["version"],
        "chart's application": chart["appVersion"],
        "gateway's dependency": gateway["dependencies"][0]["version"],
        "quickstart": re.findall(r"Forescale (\S+)  http", tutorial)[0],
    }
    return found + [f"{place}: {named}" for place, named in versions.items() if named != version]


def test_every_image_names_its_registry_and_a_version() -> None:
    found = {image for named in images(ROOT).values() for image in named}
    assert f"{REPOSITORY}:{VERSION}" in found
    assert [i for i in found if not re.fullmatch(r"[a-z0-9-]+(\.[a-z0-9-]+)+/[a-z0-9./-]+:v?[0-9][\w.-]*", i)] == []


def test_default_repository_of_the_chart_is_that_of_the_releases() -> None:
    values = yaml.safe_load((ROOT / "config/deploy/helm/forescale/values.yaml").read_text())
    assert values["image"]["repository"] == REPOSITORY


def test_every_reference_has_the_version_of_the_project() -> None:
    assert wrong_versions(ROOT, VERSION) == []


def test_make_version_prints_the_version() -> None:
    printed = subprocess.run(["make", "--silent", "version"], cwd=ROOT, capture_output=True, text=True, check=True)
    assert printed.stdout.strip() == VERSION


@pytest.mark.slow
def test_make_version_sets_every_reference(tmp_path: Path) -> None:
    for file in tracked(*TEXTS, "pyproject.toml"):
        (tmp_path / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / file, tmp_path / file, follow_symlinks=False)
    assert wrong_versions(tmp_path, "9.8.7") != []
    subprocess.run(["make", "version", "SET=9.8.7"], cwd=tmp_path, capture_output=True, check=True)
    assert wrong_versions(tmp_path, "9.8.7") == []
    assert 'version = "9.8.7"' in (tmp_path / "pyproject.toml").read_text()
    assert "Version 0.1.0 wrote schema 1" in (tmp_path / "docs/how-to/upgrade.md").read_text()
