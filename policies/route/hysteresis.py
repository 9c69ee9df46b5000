"""Hysteresis of a share: it grows at once, and falls only after `return_s`."""

from __future__ import annotations

from policies.route.situation import Situation

RETURN_S, RETURN_SHARE = "return_s", "return_share"
"""Ends of keys of a route's memory: the time since a share is too large, and the largest that was needed since."""


def min_growth(situation: Situation, needed: float) -> float:
    """Return the growth of a share from which the noise of a count does not explain it.

    Example: with a noise of 20 % of the demand, a need of 30 % is the rest of 70 % that is noisy by 14 points.
    """
    return max(situation.route.min_change, situation.demand.noise * (1.0 - needed))


def held_share(
    situation: Situation, applied: float, needed: float, min_fall: float, key: str = ""
) -> tuple[float, dict[str, float]]:
    """Return a share, with the memory of its hysteresis under `key`.

    It grows at once where more is needed than noise explains. Where it is too large by `min_fall`, or not needed at
    all, it falls after `return_s`, to the largest share that was needed in that time.
    """
    memory = situation.memory
    if needed - applied >= min_growth(situation, needed):
        return needed, {}
    if not (applied - needed >= min_fall or needed == 0.0 < applied):
        return applied, {}
    since_key, largest_key = f"{key}{RETURN_S}", f"{key}{RETURN_SHARE}"
    waited_s = memory[since_key] + situation.elapsed_s if since_key in memory else 0.0
    largest = max(needed, memory.get(largest_key, 0.0))
    if waited_s >= situation.route.return_s:
        return largest, {}
    return applied, {since_key: waited_s, largest_key: largest}
