"""One writer for each size: which pool, or which autoscaler that is imported, resizes what."""

from __future__ import annotations

from collections.abc import Callable, Iterable

from policies.model.spec import Target


class Claims:
    """The sizes that are written, and by whom."""

    def __init__(self) -> None:
        self._holders: dict[Target, Callable[[], str]] = {}

    def claim(self, targets: Iterable[Target], holder: Callable[[], str]) -> str | None:
        """Note what `holder` resizes; return the rule that is broken if another holder resizes some of it too."""
        broken = None
        for target in targets:
            first = self._holders.setdefault(target, holder)
            if first is not holder and broken is None:
                broken = f"resizes {target.what} {target.name}, and so does {first()}: each would undo the other's size"
        return broken
