"""Object storage of any cloud: the names of objects, and the limit of a list."""

from __future__ import annotations

from typing import Final

from policies.model.field_metadata import Pattern
from scaler.ports import Unavailable

PREFIX: Final = Pattern(
    r"^([A-Za-z0-9][A-Za-z0-9_.-]{0,100}/){1,8}$", "at most 8 folders of letters, digits and _ . -, each with a final /"
)
PREFIX_DOC: Final = (
    "Beginning of the objects' names, the same in all daemons that share the workloads. The installation's name follows"
    " it. Default: forescale/."
)
MAX_OBJECTS: Final = 50_000
"""Maximum number of listed objects: five times 10,000 workloads."""


def too_many(place: str) -> Unavailable:
    """Return the error for a list of objects that does not end."""
    return Unavailable(f"{place} has more than {MAX_OBJECTS} objects. Delete old ones, for example by a lifecycle rule")
