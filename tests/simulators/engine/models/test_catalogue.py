"""The catalogue: every entry can be run and states its source and error; model files survive a round trip."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest

from scaler.config.problems import ConfigError
from simulators.engine.models.catalogue import HOST, load, names, with_host, write_model, write_text
from simulators.engine.models.integers import integers
from simulators.engine.models.service import ServiceModel


@pytest.mark.parametrize("name", names())
def test_every_catalogue_entry_is_valid_and_states_its_source_and_error(name: str) -> None:
    model = load(name)
    assert model.name == name
    assert not list(model.problems())
    assert all(value >= 0 for value in integers(model)[:-1])
    assert len(model.provenance) > 60
    assert "%" in model.provenance or name.endswith("-prior")


def test_catalogue_names_are_sorted_and_unique() -> None:
    assert names() == sorted(set(names()))


def test_roofline_coefficients_are_mapped_to_their_model_fields() -> None:
    model = load("llama-3.1-70b-h100x4")
    assert (model.mem_base_s, model.cmp_base_s) == (0.016208, 0.0099713), "a + w, and a; from 9.9713 and 6.2368 ms"
    assert (model.cmp_token_s, model.kv_decode_s, model.kv_mixed_s) == (5.8577e-5, 2.8488e-8, 2.8488e-8)
    assert (model.attn_pair_s, model.kv_tokens, model.pipelined) == (1.1313e-9, 448610, False)
    assert integers(model).attn == 565_650, "femtoseconds for half a pair"


def test_a_mistyped_model_name_gets_a_suggestion() -> None:
    with pytest.raises(ConfigError, match=r"is not in the catalogue \(did you mean 'llama-3.1-8b-h200'\?\)"):
        load("llama-3.1-8b-h20")


def test_a_written_model_reads_back_unchanged(tmp_path: Path) -> None:
    model = dataclasses.replace(load("llama-3.1-8b-h100-vllm"), provenance="measured: “here”, 3 % off\nand so on")
    write_model(model, tmp_path / "mine.yaml")
    assert load(str(tmp_path / "mine.yaml")) == model
    assert [p.name for p in tmp_path.iterdir()] == ["mine.yaml"]


def test_a_model_in_json_is_read(tmp_path: Path) -> None:
    write_text(
        '{"name": "j", "mem_base_s": 0.01, "cmp_base_s": 0.0, "cmp_token_s": 1e-5, "kv_decode_s": 0.0,'
        ' "kv_mixed_s": 0.0, "attn_pair_s": 0.0, "kv_tokens": 5000}',
        tmp_path / "j.json",
    )
    assert load(str(tmp_path / "j.json")).kv_tokens == 5000


def test_all_problems_of_a_model_file_are_reported(tmp_path: Path) -> None:
    path = tmp_path / "bad.yaml"
    fields = dataclasses.asdict(load("llama-3.1-8b-h100")) | {"mem_base_s": -1, "kv_token": 5}
    path.write_text("\n".join(f"{key}: {value!r}" for key, value in fields.items() if key != "cmp_base_s"))
    with pytest.raises(ConfigError) as e:
        load(str(path))
    assert [(p.path, p.value) for p in e.value.problems if p.rule] == [
        ("cmp_base_s", ""),
        ("mem_base_s", "-1"),
        ("kv_token", ""),
    ]


def test_gpu_times_can_be_combined_with_the_host_times_of_another_model() -> None:
    gpu, host = load("llama-3.1-8b-l40s"), load("llama-3.1-8b-h100-vllm")
    joined = with_host(gpu, host)
    differing = {f.name for f in dataclasses.fields(gpu) if getattr(joined, f.name) != getattr(gpu, f.name)}
    assert differing == set(HOST)
    assert all(getattr(joined, name) == getattr(host, name) for name in HOST)


@pytest.mark.parametrize(
    ("changes", "key"),
    [
        ({"max_seqs": 4096}, "max_seqs"),
        ({"kv_tokens": 3}, "kv_tokens"),
        ({"attn_pair_s": 1e-7, "kv_tokens": 10**9}, "attn_pair_s"),
        ({"mem_base_s": 0.0, "cmp_base_s": 0.0, "cmp_token_s": 0.0}, "cmp_base_s"),
    ],
)
def test_a_model_that_cannot_run_names_the_invalid_key(changes: dict[str, float], key: str) -> None:
    model: ServiceModel = dataclasses.replace(load("llama-3.1-8b-h100"), **changes)  # type: ignore[arg-type]
    assert [k for k, _ in model.problems()] == [key]


def test_a_missing_model_file_and_an_unwritable_path_are_reported(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="No such file"):
        load(str(tmp_path / "none.yaml"))
    with pytest.raises(ConfigError, match="cannot be written"):
        write_model(load("llama-3.1-8b-h100"), tmp_path / "no" / "such" / "folder.yaml")
