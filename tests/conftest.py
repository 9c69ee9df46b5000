"""What holds for every test."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

from scaler.masking import isolated_secrets

# Properties have no limits of wall time, which a loaded machine exceeds.
settings.register_profile("project", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("project")


@pytest.fixture(autouse=True)
def _forget_secrets() -> Iterator[None]:
    """Keep the secrets that one test configures from being masked in the texts of the next."""
    with isolated_secrets():
        yield
