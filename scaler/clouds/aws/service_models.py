"""The SDK's models of AWS services, read once for all accounts, without unused parts.

A service's model is a large file: EC2's has tens of megabytes, most of it text for people, and 807 operations, each of
which the SDK turns into a method. The documentation is emptied, and for the largest services each operation that no
adapter calls is left out. Example: the client of SageMaker takes 9 instead of 18 MB.
"""

from __future__ import annotations

import functools
import gzip
import json
import os
from collections.abc import Callable, Mapping
from pathlib import Path
from sys import intern
from typing import IO, Any, Final

from botocore.loaders import JSONFileLoader, Loader, create_loader

OPERATIONS: Final[Mapping[str, frozenset[str]]] = {
    "bedrock": frozenset(
        {
            "CreateProvisionedModelThroughput",
            "DeleteProvisionedModelThroughput",
            "GetProvisionedModelThroughput",
            "ListProvisionedModelThroughputs",
        }
    ),
    "ec2": frozenset(
        {
            "CreateFleet",
            "DescribeCapacityReservations",
            "DescribeFleetHistory",
            "DescribeFleetInstances",
            "DescribeFleets",
            "DescribeInstances",
            "ModifyFleet",
            "TerminateInstances",
        }
    ),
    "sagemaker": frozenset(
        {
            "DescribeEndpoint",
            "DescribeInferenceComponent",
            "UpdateEndpointWeightsAndCapacities",
            "UpdateInferenceComponentRuntimeConfig",
        }
    ),
}
"""The operations that adapters call, of the services with the largest models."""
OPENERS: Final[tuple[tuple[str, Callable[..., IO[Any]]], ...]] = ((".json", open), (".json.gz", gzip.open))
"""The suffixes of a model's file, in the SDK's order."""


class ModelFiles(JSONFileLoader):
    """Reads models without their documentation and unused operations.

    A repeated text has one copy.
    """

    def load_file(self, file_path: str) -> dict[str, Any] | None:
        """Return a model by its path without suffix; None where it does not exist.

        Example of a path's end: `sagemaker/2017-07-24/service-2`.
        """
        for suffix, opener in OPENERS:
            if Path(file_path + suffix).is_file():
                with opener(file_path + suffix, "rb") as file:
                    model: dict[str, Any] = json.loads(file.read(), object_pairs_hook=_compact)
                return _used(Path(file_path).parts[-3], model)
        return None


def _compact(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object of a model with empty documentation.

    The SDK extends that of some shapes of S3. A member may be named documentation too, and is no text.
    """
    return {k: ("" if k == "documentation" else intern(v)) if isinstance(v, str) else v for k, v in pairs}


def _used(service: str, model: dict[str, Any]) -> dict[str, Any]:
    """Return the model with the operations that adapters call, and the shapes that they need."""
    if service not in OPERATIONS or "operations" not in model:
        return model
    operations = {name: o for name, o in model["operations"].items() if name in OPERATIONS[service]}
    needed, shapes = _shapes_in(operations), dict[str, Any]()
    while needed:
        name = needed.pop()
        shapes[name] = model["shapes"][name]
        needed |= _shapes_in(shapes[name]) - shapes.keys()
    return {**model, "operations": operations, "shapes": shapes}


def _shapes_in(part: Any) -> set[str]:
    """Return the names of the shapes to which a part of a model refers."""
    if isinstance(part, list):
        return set[str]().union(*(_shapes_in(item) for item in part))
    if not isinstance(part, dict):
        return set()
    named = {part["shape"]} if isinstance(part.get("shape"), str) else set[str]()
    return named.union(*(_shapes_in(item) for item in part.values()))


@functools.cache
def loader() -> Loader:
    """Return the loader of the services' models that all accounts share."""
    shared = create_loader(os.environ.get("AWS_DATA_PATH"))
    shared.file_loader = ModelFiles()
    return shared
