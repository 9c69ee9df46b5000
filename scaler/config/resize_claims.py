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
        broken_rule = None
        for target in targets:
            first = self._holders.setdefault(target, holder)
            if first is not holder and broken_rule is None:
                conflict = f"resizes {target.what} {target.name}, and so does {first()}"
                broken_rule = f"{conflict}: each would overwrite the other's size"
        return broken_rule
