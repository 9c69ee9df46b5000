"""What holds for every test."""

from __future__ import annotations

import gc
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from scaler.masking import isolated_secrets

# Properties have no limits of wall time, which a loaded machine exceeds.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")

# The collection of all tests makes millions of lasting objects: to search them for garbage takes a third of its time.
gc.disable()


def pytest_collection_finish() -> None:
    """Collect garbage again, but never search the imported modules and the collected tests for it."""
    gc.freeze()
    gc.enable()


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """Keep the secrets that one test configures from being masked in the texts of the next."""
    with isolated_secrets():
        yield
