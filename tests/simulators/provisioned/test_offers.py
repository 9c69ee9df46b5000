"""The file of offers and the table of units: sources, dates, overrides and errors."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from scaler.config.problems import ConfigError
from simulators.provisioned.offers import load, unit_rows
from tests.simulators.provisioned.inputs import OFFER, TERMS, named, write_offers


def test_every_row_of_the_table_has_a_source_and_a_date() -> None:
    rows = unit_rows().values()
    assert len(rows) > 40
    assert all(row.source and len(row.checked) == len("2026-03-20") for row in rows)
    assert {row.system for row in rows} == {"azure_openai", "vertex", "bedrock", "bedrock_reserved"}


@pytest.mark.parametrize(
    ("row", "rate", "smallest", "step"),
    [
        ("azure-gpt-5.5-global", 1200, 15, 5),
        ("azure-gpt-5.2-data-zone", 3400, 15, 5),
        ("azure-gpt-4.1-regional", 3000, 50, 50),
        ("azure-gpt-5-mini-regional", 23_750, 25, 25),
        ("azure-gpt-4o-mini-global", 37_000, 15, 5),
    ],
)
def test_the_table_has_the_published_numbers(row: str, rate: float, smallest: int, step: int) -> None:
    listed = unit_rows()[row]
    assert (listed.input_tokens_per_minute, listed.min_units, listed.step_units) == (rate, smallest, step)


def test_keys_of_the_file_take_precedence_over_the_row(tmp_path: Path) -> None:
    row, own = named(tmp_path), named(tmp_path, input_tokens_per_minute=2500.0, output_weight=6.0, step_units=10)
    assert (row.unit.input_tokens_per_minute, row.unit.output_weight, row.unit.step_units) == (3000.0, 4.0, 5)
    assert (own.unit.input_tokens_per_minute, own.unit.output_weight, own.unit.step_units) == (2500.0, 6.0, 10)
    assert "units.csv" in str(row.unit.sources[0])
    assert "agreement, checked 2026-11-02" in str(row.sources[0])


def test_a_price_per_hour_of_a_month_is_not_divided_by_the_month(tmp_path: Path) -> None:
    terms = named(tmp_path, terms={"month": {"term_h": 730, "usd_per_unit": 20.0, "per_h": 1}}).offer.terms
    assert terms["month"].usd_per_unit_hour == 20.0


@pytest.mark.parametrize(
    ("offer", "rule"),
    [
        ({"units": "azure-gpt-4.1-globe"}, "did you mean 'azure-gpt-4.1-global'?"),
        (
            {"units": None},
            "offers.yaml:2: throughput.chat.input_tokens_per_minute: is required: the offer names no row",
        ),
        (
            {"units": "vertex-gsu"},
            "input_tokens_per_minute: is required: the table has none for vertex-gsu (set it from",
        ),
        ({"units": "azure-gpt-4o-global"}, "output_weight: is required: the table has none for azure-gpt-4o-global"),
        ({"max_units": 10}, "max_units = 10: must be at least min_units, 15"),
        ({"terms": {}}, "must have at least one term"),
        ({"terms": {"year": {"term_h": 0, "usd_per_unit": 1}}}, "throughput.chat.terms.year.term_h"),
        ({"terms": {"year": {"term_h": 8760, "usd_per_unit": -1}}}, "throughput.chat.terms.year.usd_per_unit"),
        ({"terms": None}, "throughput.chat.terms: is required"),
        ({"pay_as_you_go": None}, "throughput.chat.pay_as_you_go: is required"),
        ({"checked": "2026-13-45"}, "must be a date as YYYY-MM-DD"),
        ({"held_units": 0}, "throughput.chat.held_units"),
        ({"output_weight": float("nan")}, "throughput.chat.output_weight"),
        ({"unitz": 3}, "throughput.chat.unitz"),
    ],
)
def test_invalid_offers_are_refused_with_their_place(tmp_path: Path, offer: dict[str, Any], rule: str) -> None:
    with pytest.raises(ConfigError) as refused:
        load(write_offers(tmp_path, **offer))
    assert rule in str(refused.value)
    assert all(line.isprintable() for line in str(refused.value).splitlines())


def test_every_invalid_offer_is_reported_at_once(tmp_path: Path) -> None:
    file = tmp_path / "offers.yaml"
    offers = {"one": {**OFFER, "units": "vertex-gsu"}, "two": {**OFFER, "units": "bedrock-model-unit"}}
    file.write_text(yaml.safe_dump({"throughput": offers}))
    with pytest.raises(ConfigError) as refused:
        load(file)
    assert len(refused.value.problems) == 2
    with pytest.raises(ConfigError, match="did you mean 'two'"):
        load(file, "twoo")


def test_only_the_named_offer_must_be_complete(tmp_path: Path) -> None:
    file = tmp_path / "offers.yaml"
    file.write_text(yaml.safe_dump({"throughput": {"chat": OFFER, "other": {**OFFER, "units": "vertex-gsu"}}}))
    assert [one.name for one in load(file, "chat")] == ["chat"]
    assert TERMS["hour"]["usd_per_unit"] == load(file, "chat")[0].offer.terms["hour"].usd_per_unit
