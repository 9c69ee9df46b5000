"""Offers files and price lists: their values, and errors with their location."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scaler.config.problems import ConfigError, Problem
from simulators.backtest.reconstruct import AssumedLengths
from simulators.cost.figures import Basis, Citation, SourcedNumber
from simulators.cost.inputs import load
from simulators.cost.offers import ReplicaOffer, engine, merge_offers
from simulators.engine.models import catalogue
from tests.simulators.cost.inputs import MODEL, journal, recorded_evidence, write_offers, write_scenario

PRICES = """\
cloud,instance_type,region,on_demand_usd_h,spot_usd_h
aws,p5.48xlarge,us-east-1,55.04,18.7089
aws,p5.48xlarge,us-west-2,55.04,
gcp,a3,us-east-1,88.0,20
azure,a3,us-east-1,98.0,
aws,free,us-east-1,0,
"""
LISTED = "prices: prices.csv\noffers: {a: {listed: {instance_type:"
POOL = ReplicaOffer("gpus", engine(MODEL), on_demand=SourcedNumber(9.0, (Citation(Basis.GIVEN, "pool"),)))


def problems(file: Path) -> list[Problem]:
    with pytest.raises(ConfigError) as caught:
        merge_offers({"gpus": POOL}, {}, load(file))
    return list(caught.value.problems)


def write_files(folder: Path, text: str) -> Path:
    (folder / "prices.csv").write_text(PRICES)
    file = folder / "offers.yaml"
    file.write_text(text)
    return file


def test_a_listed_offer_divides_its_price_list_row_by_the_replicas(tmp_path: Path) -> None:
    text = """\
prices: prices.csv
offers:
  h100: {listed: {instance_type: p5.48xlarge, region: us-east-1, replicas: 8}, spot_usd_per_hour: 2}
  west: {listed: {instance_type: p5.48xlarge, region: us-west-2}}
"""
    result, runs_on = merge_offers({"gpus": POOL}, {}, load(write_files(tmp_path, text)))
    assert runs_on == "gpus"
    assert (result["h100"].on_demand, result["h100"].spot) == (
        SourcedNumber(
            6.88, (Citation(Basis.GIVEN, f"{tmp_path}/prices.csv:2 on_demand_usd_h, 55.04 over 8 replicas"),)
        ),
        SourcedNumber(2.0, (Citation(Basis.GIVEN, f"{tmp_path}/offers.yaml:3 offers.h100.spot_usd_per_hour"),)),
    )
    assert (result["west"].on_demand.value, result["west"].spot) == (55.04, None)  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("text", "path", "rule"),
    [
        ("offers: {a: {listed: {instance_type: x, region: y}}}", "prices", "is required: offer a has a listed price"),
        (f"{LISTED} x, region: us-east-1}}}}}}", "offers.a.listed", "must have one row for x in us-east-1, not 0"),
        (f"{LISTED} a3, region: us-east-1}}}}}}", "offers.a.listed", ", not 2"),
        (f"{LISTED} free, region: us-east-1}}}}}}", "on_demand_usd_h", "above 0"),
        ("prices: none.csv\noffers: {a: {listed: {instance_type: a3, region: x}}}", "", "cannot be read"),
        ("prices: offers.yaml\noffers: {a: {listed: {instance_type: a3, region: x}}}", "", "is not a price list"),
        ("offers: {a: {on_demand_usd_per_hour: 0}}", "offers.a.on_demand_usd_per_hour", "greater than 0"),
        ("offers: {a: {on_demand_usd: 1}}", "offers.a.on_demand_usd", "unknown key"),
        ("offers: {a: {model: llama-9}}", "offers.a.model", "is not in the catalogue"),
        ("runs_on: b\noffers: {a: {}}", "runs_on", "is not in offers; the offers are a"),
        ("spot_max_share: 1.2", "spot_max_share", "less than or equal to 1"),
        ("api: {input_usd_per_million: 1}", "api.output_usd_per_million", "is required"),
    ],
)  # fmt: skip
def test_invalid_offers_are_reported_with_their_location(tmp_path: Path, text: str, path: str, rule: str) -> None:
    result = problems(write_files(tmp_path, text))
    assert any(p.path == path and rule in p.rule for p in result), result


def test_an_ambiguous_instance_type_is_resolved_by_its_cloud(tmp_path: Path) -> None:
    text = f"{LISTED} a3, region: us-east-1, cloud: gcp}}}}}}"
    result, _ = merge_offers({"gpus": POOL}, {}, load(write_files(tmp_path, text)))
    assert result["a"].on_demand.value == 88.0  # type: ignore[union-attr]


@pytest.mark.parametrize("how", ["name", "model", "runs_on"])
def test_an_offer_that_matches_the_pool_merges_with_it(tmp_path: Path, how: str) -> None:
    name = "gpus" if how == "name" else "h100"
    model = {"model": MODEL} if how == "model" else {}
    extra = {"runs_on": name} if how == "runs_on" else {}
    file = write_offers(tmp_path, offers={name: {"reserved_usd_per_hour": 4.0, **model}}, **extra)
    result, runs_on = merge_offers({"gpus": POOL}, {"gpus": 3.0}, file)
    assert (list(result), runs_on) == ([name], name)
    merged = result[name]
    assert (merged.on_demand.value, merged.reserved.value) == (9.0, 4.0)  # type: ignore[union-attr]
    assert merged.engine is not None
    assert merged.engine.model.name == MODEL


def test_engine_source_distinguishes_calibrated_and_prior_models() -> None:
    assert engine(MODEL).source.basis is Basis.CALIBRATED
    table = engine("llama-3.1-8b-a100")
    assert table.source.basis is Basis.PRIOR
    assert table.gpu_alone
    assert "engine-times.csv:" in table.source.where
    assert not engine(f"{MODEL}-prior").gpu_alone
    assert engine(f"{MODEL}-prior").source.basis is Basis.PRIOR


def test_a_models_basis_follows_its_field_and_not_its_provenance(tmp_path: Path) -> None:
    fitted = dataclasses.replace(catalogue.load(MODEL), provenance="runs of our own cluster")
    written = dataclasses.replace(fitted, calibrated=False, provenance="Calibrated from guesses")
    for model, basis in ((fitted, Basis.CALIBRATED), (written, Basis.PRIOR)):
        catalogue.write_model(model, tmp_path / "model.yaml")
        assert engine(str(tmp_path / "model.yaml")).source.basis is basis


@pytest.mark.slow
def test_recorded_lengths_and_service_times_are_measurements(tmp_path: Path) -> None:
    folder = journal(write_scenario(tmp_path))
    evidence = recorded_evidence(folder)
    assert evidence.requests is not None
    assert evidence.offer.engine is not None
    assert evidence.requests.sources[0].basis is evidence.offer.engine.source.basis is Basis.MEASURED
    named = recorded_evidence(folder, model=MODEL, lengths=AssumedLengths(output_tokens=50.0)).offer.engine
    assert named is not None
    assert named.source.basis is Basis.CALIBRATED
    assert named.source.where.endswith(f"{MODEL}.yaml of the catalogue, set as the journal's model")


def test_the_example_in_the_advise_document_loads(tmp_path: Path) -> None:
    text = (Path(__file__).parents[3] / "docs/how-to/advise.md").read_text()
    example = text.split("```yaml\n")[1].split("```")[0]
    content = load(write_files(tmp_path, example)).content
    assert set(content.offers) == {"h100", "b200"}
    assert content.api is not None
    result, runs_on = merge_offers({"gpus": POOL}, {"gpus": 1.0}, load(write_files(tmp_path, example)))
    assert runs_on == "h100"
    assert result["h100"].on_demand is not None
    assert result["h100"].on_demand.value == pytest.approx(6.88), (
        "an eighth of the price list's row, not the pool's price"
    )
