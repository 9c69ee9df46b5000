"""Kubernetes' quantities, and the names of imported quantities."""

from __future__ import annotations

import pytest

from scaler.migrate.manifest_reader import quantity
from scaler.migrate.promql import identifier, quoted


@pytest.mark.parametrize(
    ("text", "value"),
    [("500m", 0.5), ("1Gi", 2**30), ("1.5k", 1500), (3, 3), ("2e3", 2000), ("0.1", 0.1), ("10n", 1e-8), ("-1", -1)],
)
def test_kubernetes_quantity_is_parsed(text: object, value: float) -> None:
    assert quantity(text) == pytest.approx(value)


@pytest.mark.parametrize("text", ["", "m", "1 Gi", "1mm", True, None, "nan", "inf", [], "1e999", "0x10"])
def test_invalid_quantity_is_none(text: object) -> None:
    assert quantity(text) is None


def test_identifiers_are_valid_and_unique() -> None:
    used_names: set[str] = set()
    texts = ["vllm:num_requests", "vllm num-requests", "9lives", "", "Überzahl"]
    assert [identifier(text, used_names) for text in texts] == [
        "vllm_num_requests", "vllm_num_requests_2", "m_9lives", "metric", "berzahl",
    ]  # fmt: skip


def test_label_values_are_quoted_for_promql() -> None:
    assert quoted('a"b\\c\nd') == '"a\\"b\\\\c\\nd"'
