"""Models of AWS services: without documentation, and with exactly the operations that adapters call."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from botocore.loaders import create_loader
from botocore.model import ServiceModel

from scaler.clouds.aws.service_models import OPERATIONS, ModelFiles, loader

NAMES = re.compile(r'"([A-Z][A-Za-z0-9]+)"')
SCALER = Path(__file__).parents[3] / "scaler"
TABLE = SCALER / "clouds" / "aws" / "service_models.py"


def named_in_adapters() -> set[str]:
    """Return the texts of the daemon's code that may be operations."""
    files = [file for file in SCALER.rglob("*.py") if file != TABLE]
    return {name for file in files for name in NAMES.findall(file.read_text(encoding="utf-8"))}


@pytest.mark.slow
@pytest.mark.parametrize("service", OPERATIONS)
def test_exactly_the_operations_that_adapters_call_are_read(service: str) -> None:
    every = create_loader().load_service_model(service, "service-2")
    assert OPERATIONS[service] == every["operations"].keys() & named_in_adapters()
    small = ServiceModel(loader().load_service_model(service, "service-2"), service)
    full = ServiceModel(every, service)
    assert set(small.operation_names) == OPERATIONS[service]
    for name in small.operation_names:
        one, other = small.operation_model(name), full.operation_model(name)
        assert (one.http, one.name) == (other.http, other.name)
        for shape, whole in ((one.input_shape, other.input_shape), (one.output_shape, other.output_shape)):
            assert structure(shape) == structure(whole)
        assert {e.name for e in one.error_shapes} == {e.name for e in other.error_shapes}


def structure(shape: Any, above: tuple[str, ...] = ()) -> Any:
    """Return a shape as nested names and types; a recursive one ends at its own name."""
    if shape is None or shape.name in above:
        return None if shape is None else shape.name
    inside = (*above, shape.name)
    match shape.type_name:
        case "structure":
            return {name: structure(member, inside) for name, member in shape.members.items()}
        case "list":
            return [structure(shape.member, inside)]
        case "map":
            return (structure(shape.key, inside), structure(shape.value, inside))
    return (shape.type_name, getattr(shape, "enum", None), shape.serialization)


def test_documentation_is_emptied_and_a_member_of_that_name_is_kept(tmp_path: Path) -> None:
    member = {"documentation": {"shape": "Text", "documentation": "<p>A member.</p>"}}
    page = {"type": "structure", "members": member, "documentation": "<p>A page.</p>"}
    (tmp_path / "service-2.json").write_text(json.dumps({"shapes": {"Page": page}}), encoding="utf-8")
    model = ModelFiles().load_file(str(tmp_path / "service-2"))
    member["documentation"]["documentation"] = page["documentation"] = ""
    assert model == {"shapes": {"Page": page}}


def test_missing_model_is_none() -> None:
    assert loader().file_loader.load_file("/nowhere/sqs/2012-11-05/service-2") is None
