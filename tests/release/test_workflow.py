"""The release workflow: GitHub's schema, the audit of zizmor, pinned actions, and the order and rights of its jobs."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from tests.release.versions import REPOSITORY, ROOT

WORKFLOW: Final = ROOT / ".github/workflows/release.yml"
TEXT: Final = WORKFLOW.read_text()
DOCUMENT: Final[dict[str | bool, Any]] = yaml.safe_load(TEXT)
JOBS: Final[dict[str, Any]] = DOCUMENT["jobs"]
CHECKOUT: Final = re.compile(r"actions/checkout@\S+ # \S+")


def validate(file: Path) -> subprocess.CompletedProcess[str]:
    """Check a workflow by the schema of GitHub's workflows."""
    words = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", "vendor.github-workflows", str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def audit(file: Path) -> subprocess.CompletedProcess[str]:
    """Audit a workflow: unpinned actions, excessive permissions, injected templates, leaked credentials."""
    words = [f"{sys.prefix}/bin/zizmor", "--offline", "--no-progress", "--persona", "pedantic", str(file)]
    return subprocess.run(words, capture_output=True, text=True, check=False)


def changed(folder: Path, pattern: str, replacement: str) -> Path:
    """Return a copy of the workflow with a change."""
    text, count = re.subn(pattern, replacement, TEXT)
    assert count
    file = folder / ".github/workflows/release.yml"
    file.parent.mkdir(parents=True)
    file.write_text(text)
    return file


def commands(job: str) -> str:
    return "\n".join(step.get("run", "") for step in JOBS[job]["steps"])


def actions(job: str) -> list[str]:
    return [step["uses"].partition("@")[0] for step in JOBS[job]["steps"] if "uses" in step]


def test_workflow_has_the_schema_of_github() -> None:
    assert validate(WORKFLOW).returncode == 0


def test_audit_has_no_finding() -> None:
    done = audit(WORKFLOW)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize(
    ("pattern", "replacement", "finding"),
    [
        (CHECKOUT.pattern, "actions/checkout@v6", "unpinned-uses"),
        ("permissions: {}", "permissions: write-all", "excessive-permissions"),
        ("persist-credentials: false", "fetch-depth: 1", "artipacked"),
        (r'"\$GITHUB_REF_NAME" = ', '"${{ github.ref_name }}" = ', "template-injection"),
    ],
)
def test_audit_finds_a_weaker_workflow(pattern: str, replacement: str, finding: str, tmp_path: Path) -> None:
    assert finding in audit(changed(tmp_path, pattern, replacement)).stdout


def test_schema_refuses_a_misspelled_key(tmp_path: Path) -> None:
    done = validate(changed(tmp_path, "timeout-minutes: 15", "timeout_minutes: 15"))
    assert done.returncode == 1
    assert "timeout_minutes" in done.stdout


def test_each_action_is_pinned_by_commit_and_names_its_version() -> None:
    used = re.findall(r"uses: (.+)", TEXT)
    assert used
    assert [u for u in used if not re.fullmatch(r"[\w-]+/[\w-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", u)] == []


def test_a_tag_starts_tests_then_distributions_then_publication() -> None:
    assert DOCUMENT[True] == {"push": {"tags": ["v*"]}}  # YAML 1.1 reads the key `on` as true
    assert {name: job.get("needs") for name, job in JOBS.items()} == {
        "test": None,
        "dist": "test",
        "pypi": "dist",
        "image": "dist",
        "release": ["pypi", "image"],
    }
    assert "make lint types contracts test" in commands("test")
    assert 'test "$GITHUB_REF_NAME" = "v$(make --silent version)"' in commands("dist")
    assert "make dist" in commands("dist")


def test_each_job_has_only_the_rights_of_its_task() -> None:
    assert DOCUMENT["permissions"] == {}
    assert {name: job["permissions"] for name, job in JOBS.items()} == {
        "test": {"contents": "read"},
        "dist": {"contents": "read"},
        "pypi": {"id-token": "write"},
        "image": {"contents": "read", "packages": "write", "id-token": "write"},
        "release": {"contents": "write", "id-token": "write"},
    }


def test_no_job_has_a_stored_secret() -> None:
    assert set(re.findall(r"secrets\.(\w+)", TEXT)) == {"GITHUB_TOKEN"}


def test_package_index_gets_the_checked_files_by_trusted_publishing() -> None:
    assert JOBS["pypi"]["environment"]["name"] == "pypi"
    assert actions("pypi") == ["actions/download-artifact", "pypa/gh-action-pypi-publish"]
    assert "with" not in JOBS["pypi"]["steps"][1]


def test_image_is_pushed_by_make_and_signed_by_its_digest() -> None:
    assert JOBS["image"]["steps"][-2]["env"]["IMAGE"] == "ghcr.io/${{ github.repository }}"
    assert REPOSITORY.startswith("ghcr.io/")
    assert 'make image-push IMAGE="$IMAGE"' in commands("image")
    assert "metadata-file build/image.json" in (ROOT / "Makefile").read_text()
    assert "build/image.json" in commands("image")
    assert 'cosign sign --yes --recursive "$IMAGE@$digest"' in commands("image")
    assert 'cosign attest --yes --type cyclonedx --predicate dist/*.cdx.json "$IMAGE@$digest"' in commands("image")


def test_files_of_the_release_are_signed() -> None:
    assert "cosign sign-blob --yes --bundle" in commands("release")
    assert "--verify-tag" in commands("release")
