"""How a law is tried: hypothesis' settings, said once."""

from __future__ import annotations

import os
from typing import Final

from hypothesis import HealthCheck, settings

QUICK: Final = "FORESCALE_QUICK_TESTS" in os.environ
"""`make check` tries a fifth of the examples of each law."""


def law(examples: int) -> settings:
    """Of a law that `examples` examples are to try, the same ones in each process that imported the same modules.

    Hypothesis draws some values from the constants of imported modules: another order of tests may find what is new.
    """
    return settings(
        max_examples=max(5, examples // 5) if QUICK else examples,
        deadline=None,
        derandomize=True,
        database=None,
        suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    )


LAW: Final = law(80)
