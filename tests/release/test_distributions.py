"""`make dist`: contents, reproducibility and SBOM of the distributions, and their installation elsewhere."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

import pytest

from tests.release.versions import ROOT, VERSION, tracked

pytestmark = pytest.mark.slow
PACKAGES: Final = ("policies", "scaler", "simulators")
SOURCES: Final = (
    ".gitignore",
    "CHANGELOG.md",
    "LICENSE",
    "Makefile",
    "README.md",
    "config",
    "pyproject.toml",
    "requirements",
    *PACKAGES,
)
UV: Final = f"{sys.prefix}/bin/uv"
PYTHONS: Final = ("3.11", "3.13")
PROJECT: Final[dict[str, Any]] = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
EXTRAS: Final = ",".join(name for name in PROJECT["optional-dependencies"] if name != "dev")
EPOCH: Final = "1700000000"
CORE_WORKLOAD: Final = ROOT / "config/workloads/short.yaml"
EVERY_KIND: Final = ROOT / "config/example/workload.yaml"


def make_dist(folder: Path, dist: Path) -> Path:
    """Run `make dist` in a folder, with this environment's tools."""
    environment = {**os.environ, "SOURCE_DATE_EPOCH": EPOCH}
    words = ["make", "dist", f"VENV={sys.prefix}", f"DIST={dist}", "--old-file", f"{sys.prefix}/.dev"]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return dist


@pytest.fixture(scope="module")
def dist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return the folder with the distributions of this checkout."""
    return make_dist(ROOT, tmp_path_factory.mktemp("release") / "dist")


def wheel(dist: Path) -> Path:
    return dist / f"forescale-{VERSION}-py3-none-any.whl"


def sdist(dist: Path) -> Path:
    return dist / f"forescale-{VERSION}.tar.gz"


def bom(dist: Path) -> Path:
    return dist / f"forescale-{VERSION}.cdx.json"


def test_wheel_has_each_file_of_the_packages_and_no_other(dist: Path) -> None:
    names = {name for name in zipfile.ZipFile(wheel(dist)).namelist() if ".dist-info/" not in name}
    assert names == {str(file) for file in tracked(*PACKAGES)}


def test_wheel_has_license_description_and_links(dist: Path) -> None:
    with zipfile.ZipFile(wheel(dist)) as archive:
        metadata = archive.read(f"forescale-{VERSION}.dist-info/METADATA").decode()
        license_text = archive.read(f"forescale-{VERSION}.dist-info/licenses/LICENSE").decode()
    assert f"\nVersion: {VERSION}\n" in metadata
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "\nProject-URL: Source, https://github.com/forescale/forescale\n" in metadata
    assert license_text == (ROOT / "LICENSE").read_text()


def test_description_links_to_files_of_the_repository(dist: Path) -> None:
    """The package index shows the README, where a relative link leads to no file."""
    with zipfile.ZipFile(wheel(dist)) as archive:
        metadata = archive.read(f"forescale-{VERSION}.dist-info/METADATA").decode()
    links = re.findall(r"\]\(([^)]+)\)", metadata)
    assert len(links) > 20
    assert [link for link in links if not link.startswith(("https://", "#"))] == []


def test_sdist_has_packages_and_configuration(dist: Path) -> None:
    with tarfile.open(sdist(dist)) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    expected = {
        str(file) for file in tracked("CHANGELOG.md", "LICENSE", "README.md", "config", "pyproject.toml", *PACKAGES)
    }
    assert names == expected | {"PKG-INFO", ".gitignore"}


def test_same_sources_make_the_same_bytes(dist: Path, tmp_path: Path) -> None:
    """Times, permissions and the folder of the sources do not change a distribution or the SBOM."""
    for file in tracked(*SOURCES):
        (tmp_path / "copy" / file).parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(ROOT / file, tmp_path / "copy" / file, follow_symlinks=False)
    again = make_dist(tmp_path / "copy", tmp_path / "dist")
    for made in (wheel, sdist, bom):
        assert made(again).read_bytes() == made(dist).read_bytes(), made(dist).name


def test_sbom_has_each_locked_package_with_its_hashes(dist: Path) -> None:
    document = json.loads(bom(dist).read_text())
    assert document["bomFormat"] == "CycloneDX"
    described = document["metadata"]["component"]
    assert (described["name"], described["version"]) == ("forescale", VERSION)
    assert described["licenses"] == [{"license": {"acknowledgement": "declared", "id": "Apache-2.0"}}]
    lock = (ROOT / "requirements/image.txt").read_text()
    locked = re.findall(r"^([a-z0-9._-]+)(?:\[[^\]]*\])?==([^\s;\\]+)", lock, re.MULTILINE)
    assert sorted((c["name"], c["version"]) for c in document["components"]) == sorted(locked)
    hashes = [h for c in document["components"] for ref in c["externalReferences"] for h in ref.get("hashes", [])]
    assert len(hashes) == len(re.findall("--hash=sha256:", lock))


def interpreter(python: str) -> str:
    """Return the path of an interpreter; skip the test where there is none."""
    found = subprocess.run(
        [UV, "python", "find", "--no-project", "--system", python], capture_output=True, text=True, check=False
    )
    if found.returncode:
        pytest.skip(f"no Python {python} on this machine")
    return found.stdout.strip()


def install(requirement: str, python: str, folder: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Install a requirement into a new environment, and return the runner of its programs."""
    programs = folder / "venv/bin"
    quiet = [UV, "--quiet", "--no-config"]
    subprocess.run([*quiet, "venv", "--python", interpreter(python), str(folder / "venv")], check=True)
    locked = ["--constraint", str(ROOT / "requirements/dev.txt")]
    target = ["--python", str(programs / "python")]
    subprocess.run([*quiet, "pip", "install", *target, *locked, requirement], cwd=folder, check=True)

    def run(program: str, *words: object) -> subprocess.CompletedProcess[str]:
        environment = {"PATH": f"{programs}:/usr/bin:/bin", "HOME": str(folder), "COLUMNS": "200"}
        command = [str(programs / program), *map(str, words)]
        return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)

    return run


@pytest.mark.parametrize("python", PYTHONS)
@pytest.mark.parametrize("archive", [wheel, sdist], ids=["wheel", "sdist"])
def test_core_runs_in_a_clean_environment(
    archive: Callable[[Path], Path], python: str, dist: Path, tmp_path: Path
) -> None:
    run = install(str(archive(dist)), python, tmp_path)
    assert run("forescale", "--version").stdout == f"forescale {VERSION}\n"
    checked = run("forescale", "check", CORE_WORKLOAD)
    assert checked.returncode == 0, checked.stderr
    assert json.loads(run("forescale", "schema").stdout) == json.loads((ROOT / "config/schema.json").read_text())


@pytest.mark.parametrize("python", PYTHONS)
def test_extras_bring_what_every_kind_imports(python: str, dist: Path, tmp_path: Path) -> None:
    """With all extras, `check` misses no package for any kind, and the catalogue of models is there."""
    run = install(f"forescale[{EXTRAS}] @ {wheel(dist).as_uri()}", python, tmp_path)
    checked = run("forescale", "check", EVERY_KIND)
    assert checked.returncode == 0, checked.stderr
    assert "kafka (installed)" in checked.stdout
    assert "pip install" not in checked.stdout
    assert "llama-3.1-8b-h100-vllm" in run("forescale", "models").stdout
    imports = "import simulators.commands.compare, simulators.commands.tune, simulators.tune.executor"
    assert run("python", "-c", imports).returncode == 0
