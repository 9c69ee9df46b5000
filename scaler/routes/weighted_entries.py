"""The weighted entries of any gateway's object, and how they fit the configured backends."""

from __future__ import annotations

from collections.abc import Container, Iterable, Mapping, Sequence

from policies.model.names import BackendName


def split_text(weights: Mapping[BackendName, int]) -> str:
    """Return weights as text, such as `gpus 7200, openai 2800`."""
    return ", ".join(f"{name} {weight}" for name, weight in sorted(weights.items()))


def entries_problem(
    noun: str, key: str, configured: Mapping[str, BackendName], entries: Sequence[tuple[str, int]]
) -> str:
    """Return why entries do not fit the configured backends; empty where they do.

    An entry has a name and a weight, and `configured` the backends by the names of their entries.

    `noun` names an entry as the gateway does, and `key` the setting with the names.
    """
    names = [name for name, _ in entries]
    for name, backend in configured.items():
        if names.count(name) > 1:
            return f"has the {noun} {name!r} twice; give each backend one of its own"
        if name not in names:
            known = ", ".join(names) or "none"
            return f"has no {noun} {name!r} ({noun}s: {known}); add it with weight 0, or set {key}.{backend}"
    return stranger_problem(configured, entries)


def stranger_problem(configured: Container[str], entries: Iterable[tuple[str, int]]) -> str:
    """Return which entry gets requests and is no configured one; empty without one."""
    for name, weight in entries:
        if name not in configured and weight > 0:
            return (
                f"sends requests to {name!r} (weight {weight}), which is no backend; add it to backends, or set its"
                " weight to 0"
            )
    return ""
