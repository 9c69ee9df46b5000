"""Plans: the purchase, its risk, the test on later weeks, and the check of the table of units."""

from __future__ import annotations

import dataclasses
import math
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from scaler.config.problems import ConfigError
from simulators.provisioned import apply, text
from simulators.provisioned.plan import ThroughputPlan, as_dict, cautions, plan
from simulators.provisioned.samples import TokenSamples
from tests.simulators.provisioned.inputs import named, samples

UNIT: int = 3000
"""Input tokens per minute of a unit, which cost 0.36 USD per hour."""


def office(hour: int) -> float:
    """Return 40 units from 8 to 18 on weekdays, and 20 otherwise."""
    busy = hour % 24 in range(8, 18) and hour // 24 % 7 < 5
    return UNIT * (40.0 if busy else 20.0)


def planned(folder: Path, observed: TokenSamples | None = None, fall: float = 0.2, **offer: Any) -> ThroughputPlan:
    return plan(samples(2, office) if observed is None else observed, named(folder, **offer), fall)


def test_the_base_is_committed_and_the_peak_spills(tmp_path: Path) -> None:
    """The base of 20 units pays for a year, except the part that a fall by a fifth leaves unused."""
    result = planned(tmp_path)
    assert result.purchase.held == {"year": 15, "hour": 5}
    busy = 50 / 168
    tokens, spilled = 20 * (1 - busy) + 40 * busy, 20 * busy
    assert result.spill.share == pytest.approx(spilled / tokens)
    assert result.spill.time_share == pytest.approx(busy)
    assert result.spill.hours == pytest.approx((0.0, 0.5, 0.5))
    assert result.spill.largest_hour == pytest.approx(0.5)
    assert result.usd_per_month == pytest.approx(730 * (15 * 0.25 + 5 * 0.34 + 0.36 * spilled))
    assert result.pay_as_you_go == pytest.approx(730 * 0.36 * tokens)


def test_a_plan_without_a_fall_commits_the_whole_base(tmp_path: Path) -> None:
    assert planned(tmp_path, fall=0.0).purchase.held == {"year": 20}


def test_break_even_load_is_at_the_crossing(tmp_path: Path) -> None:
    """20 units at 0.25 USD pay while they save 5 USD per hour: 0.36 x 20 x factor while the load is below them."""
    result = planned(tmp_path, samples(2, lambda _hour: UNIT * 20.0), fall=0.0)
    assert result.break_even_load == pytest.approx(0.25 / 0.36)


def test_a_unit_more_expensive_than_its_tokens_is_not_held(tmp_path: Path) -> None:
    result = planned(tmp_path, terms={"hour": {"term_h": 1, "usd_per_unit": 1.0}})
    assert result.purchase.units == 0
    assert result.spill.share == 1.0
    sentences = " ".join(text.findings(result))
    assert "Pay-as-you-go alone is the cheapest" in sentences
    assert "Even a unit in full use costs more than its tokens: 2.78 times as much for hour." in sentences
    assert "there is nothing to buy" in apply.script([result])


def test_max_units_limits_the_plan(tmp_path: Path) -> None:
    assert planned(tmp_path, max_units=18).purchase.units == 15


def test_load_changes_keep_the_units_and_change_the_spillover(tmp_path: Path) -> None:
    changes = planned(tmp_path).changes
    assert [change.factor for change in changes] == pytest.approx([0.8, 1.0, 1.2])
    assert [change.spilled_share for change in changes] == sorted(change.spilled_share for change in changes)
    fixed = 730 * (15 * 0.25 + 5 * 0.34)
    assert all(change.usd_per_month >= fixed for change in changes)


def test_each_later_week_is_under_the_plan_of_the_weeks_before_it(tmp_path: Path) -> None:
    """The load doubles in the third week: the plan of the first two spills half of it."""
    result = planned(tmp_path, samples(3, lambda hour: UNIT * (20.0 if hour < 336 else 40.0)), fall=0.0)
    assert [week.units for week in result.weeks] == [20, 20]
    assert [week.spilled_share for week in result.weeks] == pytest.approx([0.0, 0.5])
    assert [week.best_usd for week in result.weeks] == pytest.approx([20 * 0.25, 40 * 0.25])
    assert result.weeks[1].usd == pytest.approx(20 * 0.25 + 20 * 0.36)


def test_a_week_with_gaps_tests_no_plan(tmp_path: Path) -> None:
    observed = samples(3, office)
    assert len(planned(tmp_path, observed.taken(np.arange(504) < 400)).weeks) == 1


@pytest.mark.parametrize(("factor", "differs"), [(1.0, False), (1.25, True), (0.8, True)])
def test_the_table_is_compared_with_the_observed_utilization(tmp_path: Path, factor: float, differs: bool) -> None:
    observed = samples(1, office)
    known = dataclasses.replace(observed, utilization=np.minimum(factor * observed.input / UNIT / 50, 1.0))
    result = planned(tmp_path, known, held_units=50)
    assert result.check is not None
    assert result.check.ratio == pytest.approx(factor)
    assert result.check.differs is differs
    remedy = f"Plan again with input_tokens_per_minute: {UNIT / factor:.0f}."
    assert (remedy in text.check_text(result)) is differs
    assert ("correct it before you buy" in " ".join(cautions(result))) is differs


def test_saturated_and_unknown_utilization_is_not_compared(tmp_path: Path) -> None:
    observed = samples(1, office)
    for utilization in (np.full(168, 1.0), np.full(168, np.nan), None):
        known = dataclasses.replace(observed, utilization=utilization)
        assert planned(tmp_path, known, held_units=50).check is None


def test_cautions_name_what_was_not_observed(tmp_path: Path) -> None:
    observed = samples(1, office)
    listed = " ".join(cautions(planned(tmp_path, observed.taken(observed.hour_of_week >= 24), checked=None)))
    assert "24 of the 168 hours of the week were not observed. They are unknown, not 0" in listed
    for part in ("less than two weeks", "samples of up to 3,600 s", "cached prompt tokens are not given", "no date"):
        assert part in listed
    assert text.UNSEEN * 48 in "\n".join(
        text.heat(observed.taken(observed.hour_of_week >= 24).mean_by_hour(np.ones(144)), "PTU")
    )


def test_equal_plans_have_equal_ids_and_other_prices_other_ids(tmp_path: Path) -> None:
    first, second = planned(tmp_path), planned(tmp_path, samples(4, office))
    assert first.plan_id == second.plan_id
    assert re.fullmatch("[0-9a-f]{12}", first.plan_id)
    other = planned(tmp_path, terms={"year": {"term_h": 8760, "usd_per_unit": 2000.0}})
    assert other.plan_id != first.plan_id


def test_a_unit_so_small_that_there_are_too_many_sizes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(
        ConfigError,
        match=r"offers.yaml:\d+: throughput.chat.step_units = 5: is too small: .* has more than 100,000 sizes",
    ):
        planned(tmp_path, input_tokens_per_minute=0.001)


def test_no_tokens_need_no_units(tmp_path: Path) -> None:
    result = planned(tmp_path, samples(2, lambda _hour: 0.0))
    assert (result.purchase.units, result.pay_as_you_go, result.spill.share) == (0, 0.0, 0.0)
    assert "inf" not in "\n".join(text.lines(result))
    assert math.isinf(result.by_term[0].break_even_use)


@pytest.mark.parametrize(
    ("offer", "commands"),
    [
        (
            {},
            ['--body \'{"sku": {"name": "GlobalProvisionedManaged", "capacity": 20}}\'', "of 15 PTU for the term year"],
        ),
        (
            {
                "units": "bedrock-model-unit",
                "input_tokens_per_minute": 30_000.0,
                "output_tokens_per_minute": 1e6,
                "terms": {
                    "half": {"term_h": 4380, "usd_per_unit": 2.7, "per_h": 1},
                    "hour": {"term_h": 1, "usd_per_unit": 3.4},
                },
            },
            [
                "--model-units 1 --commitment-duration SixMonths",
                "--model-units 1 \\",
                '"$NAME-2" --client-request-token',
            ],
        ),
        ({"units": "vertex-gsu", "input_tokens_per_minute": 3000.0, "output_weight": 4.0}, ["Google Cloud console"]),
        ({"units": None, "input_tokens_per_minute": 3000.0, "output_weight": 4.0}, ["Order it from the provider."]),
    ],
    ids=["Azure", "Bedrock", "Vertex", "other"],
)
def test_script_applies_the_plan(tmp_path: Path, offer: dict[str, Any], commands: list[str]) -> None:
    result = planned(tmp_path, **offer)
    script = apply.script([result])
    assert f"# Plan {result.plan_id} of chat: hold {result.purchase.units} " in script
    for command in commands:
        assert command in script


def test_dictionary_has_every_part(tmp_path: Path) -> None:
    document = as_dict(planned(tmp_path))
    assert document["hold"] == {"units": 20, "terms": {"year": 15, "hour": 5}}
    assert len(document["observed"]["units_by_hour_of_week"]) == 168
    assert document["observed"]["units_by_hour_of_week"][8] == pytest.approx(40.0)
    assert [source["basis"] for source in document["sources"]] == ["measured", "prior", "given"]
