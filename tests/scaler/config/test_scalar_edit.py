"""Edits of one setting: comments and layout stay, and no other setting changes."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from scaler.config.files import Unreadable
from scaler.config.scalar_edit import NoPlace, replace_text, with_word

KEYS = ("pools", "a", "approve")


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (
            "pools:\n  a:\n    approve: null  # why\n    kind: k\n",
            'pools:\n  a:\n    approve: "1e5"  # why\n    kind: k\n',
        ),
        ("pools:\n  a:\n    approve:  # why\n    kind: k\n", 'pools:\n  a:\n    approve: "1e5"  # why\n    kind: k\n'),
        ("pools:\n  a:\n    # first\n    kind: k\n", 'pools:\n  a:\n    # first\n    approve: "1e5"\n    kind: k\n'),
        ("pools: {a: {kind: k}}\n", 'pools: {a: {approve: "1e5", kind: k}}\n'),
        ("pools: {a: {approve: 'é', kind: k}}", 'pools: {a: {approve: "1e5", kind: k}}'),
        ("\ufeffpools:\r\n  a:\r\n    approve: x\r\n", '\ufeffpools:\r\n  a:\r\n    approve: "1e5"\r\n'),
        ("---\n# none\n---\npools: {a: {approve: x}}\n", '---\n# none\n---\npools: {a: {approve: "1e5"}}\n'),
    ],
)
def test_only_the_setting_changes(before: str, after: str) -> None:
    assert with_word(before, 0, KEYS, "1e5") == after


def test_the_document_is_chosen_by_its_number() -> None:
    text = "daemon: {}\n---\npools: {a: {kind: k}}\n"
    assert with_word(text, 1, KEYS, "x") == 'daemon: {}\n---\npools: {a: {approve: "x", kind: k}}\n'


@pytest.mark.parametrize(
    "text",
    [
        "pools: {b: &b {kind: k}, a: *b}\n",
        "pools: {a: {kind: &k k, approve: *k}}\n",
        "pools: {b: {approve: &x x}, a: {approve: *x}}\n",
        "pools: {a: {approve: &x x}, b: {approve: *x}}\n",
        "pools: {a: {}}\n",
        "pools: {a: {approve: [x]}}\n",
        "pools: {b: {kind: k}}\n",
    ],
)
def test_a_setting_that_cannot_change_alone_is_refused(text: str) -> None:
    with pytest.raises(NoPlace, match=r"pools\.a\.approve"):
        with_word(text, 0, KEYS, "y")
    assert yaml.safe_load(text)


def test_a_file_is_replaced_at_once_and_keeps_mode_and_link(tmp_path: Path) -> None:
    real, link = tmp_path / "real.yaml", tmp_path / "link.yaml"
    real.write_text("old")
    real.chmod(0o640)
    link.symlink_to(real)
    replace_text(link, "new")
    assert link.is_symlink()
    assert (real.read_text(), real.stat().st_mode & 0o777) == ("new", 0o640)
    assert sorted(tmp_path.iterdir()) == [link, real]
    with pytest.raises(Unreadable, match="cannot be written: No such file"):
        replace_text(tmp_path / "none" / "x.yaml", "new")
