"""Times at which a pool's replicas were added, for its minimum billed time."""

from __future__ import annotations


class AddedReplicas:
    """Replicas added to one pool and not removed since, oldest first.

    A requested removal takes the oldest ones: the minimum billed time ends for them first. A size that falls without a
    request loses the newest ones: the platform did not provide them. The age of replicas from before the first tick is
    unknown; they are the oldest and not counted, so they may go at once.
    """

    def __init__(self) -> None:
        self._added: list[tuple[float, int]] = []
        self._size: int | None = None

    def note(self, at: float, desired: int, requested: int) -> None:
        """Record a tick: the size that the platform reported, and the size after the tick's write.

        Example: 2 replicas, and 5 requested at 100 s: 3 were added at 100 s. Once the platform reports 2 again, none
        was.
        """
        if self._size is None:
            self._added.append((float("-inf"), desired))
        else:
            if desired > self._size:
                self._added.append((at, desired - self._size))
            self._remove(self._size - desired, newest=True)
        if requested > desired:
            self._added.append((at, requested - desired))
        self._remove(desired - requested, newest=False)
        self._size = requested

    def within(self, now: float, min_billed_s: float) -> int:
        """Return the replicas that were added less than `min_billed_s` ago."""
        return sum(replicas for at, replicas in self._added if now - at < min_billed_s)

    def remaining_s(self, now: float, min_billed_s: float) -> float:
        """Return the time until the minimum ends for the oldest replica within it; 0 without one."""
        return next((at + min_billed_s - now for at, _ in self._added if now - at < min_billed_s), 0.0)

    def shift(self, step_s: float) -> None:
        self._added = [(at + step_s, replicas) for at, replicas in self._added]

    def _remove(self, count: int, *, newest: bool) -> None:
        end = -1 if newest else 0
        while count > 0 and self._added:
            at, replicas = self._added[end]
            if replicas > count:
                self._added[end] = at, replicas - count
            else:
                del self._added[end]
            count -= replicas
