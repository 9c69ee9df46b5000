"""The cache folder of the compiled kernel: Numba runs what it loads from there, so only this user may write to it."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from simulators.engine.kernel.jit import cache_folder

ROOT = Path(__file__).parents[4]


def folder(home: Path) -> Path | None:
    return cache_folder({"XDG_CACHE_HOME": str(home)})


def test_the_cache_folder_is_private_to_the_user_and_reused(tmp_path: Path) -> None:
    cache = folder(tmp_path / "cache")
    assert cache is not None
    assert [stat.S_IMODE(p.stat().st_mode) for p in (cache, cache.parent)] == [0o700, 0o700]
    assert folder(tmp_path / "cache") == cache


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder to another user")
@pytest.mark.parametrize("level", ["root", "kernel"])
def test_a_cache_folder_of_another_user_is_rejected(
    level: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = folder(tmp_path)
    assert cache is not None
    os.chown(cache if level == "kernel" else cache.parent, 65534, 65534)
    assert folder(tmp_path) is None
    assert ", not 65534" in caplog.text
    assert "XDG_CACHE_HOME" in caplog.text


@pytest.mark.parametrize("mode", [0o770, 0o707, 0o777, 0o1777])
@pytest.mark.parametrize("level", ["root", "kernel"])
def test_a_cache_folder_that_others_may_write_to_is_rejected(
    level: str, mode: int, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    cache = folder(tmp_path)
    assert cache is not None
    (cache if level == "kernel" else cache.parent).chmod(mode)
    assert folder(tmp_path) is None
    assert f"mode {mode:o}" in caplog.text


def test_a_symbolic_link_as_cache_folder_is_rejected(tmp_path: Path) -> None:
    cache = folder(tmp_path)
    assert cache is not None
    cache.rename(tmp_path / "elsewhere")
    cache.symlink_to(tmp_path / "elsewhere")
    assert folder(tmp_path) is None


def test_a_home_that_is_a_file_disables_the_cache(tmp_path: Path) -> None:
    (tmp_path / "home").touch()
    assert folder(tmp_path / "home") is None


@pytest.mark.slow
def test_without_a_cache_the_kernel_runs_and_writes_no_files(tmp_path: Path) -> None:
    cache = folder(tmp_path)
    assert cache is not None
    cache.chmod(0o777)
    script = (
        "from simulators.engine.kernel.jit import compiled\n"
        "@compiled\ndef twice(x: int) -> int:\n    return 2 * x\n"
        "assert twice(21) == 42 and not twice.stats.cache_path"
    )
    (tmp_path / "script.py").write_text(script)
    env = {**os.environ, "XDG_CACHE_HOME": str(tmp_path), "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path / "tmp")}
    (tmp_path / "tmp").mkdir()
    done = subprocess.run(
        [sys.executable, str(tmp_path / "script.py")], env=env, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr.count("compiled at each start, without a cache") == 1
    assert not list(cache.rglob("*.nb?"))
    assert not list((tmp_path / "tmp").iterdir())
