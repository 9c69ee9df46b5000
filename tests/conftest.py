"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from scaler.masking import isolated_secrets


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """Keep the secrets that one test configures from being masked in the texts of the next."""
    with isolated_secrets():
        yield
