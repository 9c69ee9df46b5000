"""Claims of pools and imported autoscalers on the objects that they resize.

An object has one writer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

from policies.model.pool import Target


class Claims:
    """The claimed objects, each with its holder."""

    def __init__(self) -> None:
        self._holders: dict[Target, Callable[[], str]] = {}

    def claim(self, targets: Iterable[Target], holder: Callable[[], str]) -> str | None:
        """Claim targets for `holder`.

        Return the broken rule if another holder has claimed one of them.
        """
        listed = tuple(targets)
        broken_rule = self.conflict(listed)
        for target in listed:
            self._holders.setdefault(target, holder)
        return broken_rule

    def conflict(self, targets: Iterable[Target]) -> str | None:
        """Return the broken rule if a holder has claimed one of the targets."""
        for target in targets:
            if (holder := self._holders.get(target)) is not None:
                conflict = f"resizes {target.what} {target.name}, and so does {holder()}"
                return f"{conflict}: each would overwrite the other's size"
        return None
