"""Service models: shipped ones by name, and those that `forescale calibrate` wrote by file.

``data/engine-times.csv`` holds step times ``a + max(w, b T) + c K + d A`` fitted to measured kernels: GPU time only, of
a synchronous engine without host overhead. ``data/*.yaml`` are models fitted to whole runs of an engine.
"""

from __future__ import annotations

import csv
import dataclasses
import json
import re
from functools import cache
from pathlib import Path
from typing import Final

import yaml

from scaler.config.document import Document, read
from scaler.config.files import Unreadable, read_text
from scaler.config.problems import ConfigError, Problem
from scaler.registry import did_you_mean
from simulators.engine.models.service import ServiceModel
from simulators.experiments import spec_loader

DATA: Final = Path(__file__).parent / "data"
ENGINE_TIMES: Final = DATA / "engine-times.csv"
HOST: Final = (
    "host_decode_s", "host_graph_s", "host_eager_s", "host_eager_sigma", "host_seq_s", "graph_tokens", "ingest_s",
    "front_base_s", "front_seq_s", "pipelined",
)  # fmt: skip
"""Fields of a service model that describe the host, independent of the GPU."""
NAME: Final = re.compile(
    r"^(?P<base>[a-z0-9.-]+?-[0-9]+b)-(?P<gpu>[a-z0-9-]+?)(?P<engine>-(sglang|trtllm|vllm.*|llm.*))?$"
)
"""Parts of a name: the weights, the GPUs of a replica, and the engine if it is not the usual one."""
SUFFIXES: Final = (".yaml", ".yml", ".json")


def names() -> list[str]:
    """Return the catalogue's names, sorted."""
    return sorted([*_engine_times(), *(p.stem for p in DATA.glob("*.yaml"))])


def load(name: str) -> ServiceModel:
    """Return a model by its catalogue name, or from a YAML or JSON file. Raises `ConfigError`."""
    if name.endswith(SUFFIXES):
        return read_model(Path(name))
    if name in _engine_times():
        return _engine_times()[name]
    if name in names():
        return read_model(DATA / f"{name}.yaml")
    hint = did_you_mean(name, names()) or "name a model of the catalogue, or a file that ends in .yaml"
    raise ConfigError([Problem("catalogue", 1, "model", name, "is not in the catalogue", hint)])


def read_model(path: Path) -> ServiceModel:
    """Return a model from its file. Raises `ConfigError` with every problem found."""
    if path.suffix == ".json":
        documents, problems = _json(path)
    else:
        documents, problems = read(path)
    if not problems and len(documents) != 1:
        problems = [Problem(str(path), 1, "", "", f"must contain one service model, not {len(documents)} documents")]
    if problems:
        raise ConfigError(problems)
    model: ServiceModel = spec_loader.read(ServiceModel, documents[0].data, documents[0])
    return model


def _json(path: Path) -> tuple[list[Document], list[Problem]]:
    """Return a JSON file's document. The YAML reader would read its ``1e-5`` as text."""
    try:
        return [Document(str(path), json.loads(read_text(path)), {})], []
    except Unreadable as e:
        return [], [Problem(str(path), 1, "", "", e.rule, e.hint)]
    except RecursionError:
        return [], [Problem(str(path), 1, "", "", "is nested too deeply", "a service model is one flat object")]
    except json.JSONDecodeError as e:
        return [], [Problem(str(path), e.lineno, "", "", f"is not valid JSON: {e.msg}")]


def with_host(model: ServiceModel, host: ServiceModel) -> ServiceModel:
    """Return `model` with the host fields of another model."""
    return dataclasses.replace(model, **{field: getattr(host, field) for field in HOST})


def write_model(model: ServiceModel, path: Path) -> None:
    """Write a model as YAML. Raises `ConfigError`."""
    write_text(yaml.safe_dump(dataclasses.asdict(model), sort_keys=False, allow_unicode=True, width=110), path)


def write_text(text: str, path: Path) -> None:
    """Write a file atomically. Raises `ConfigError`."""
    partial = path.with_name(f".{path.name}.part")
    try:
        partial.write_text(text, encoding="utf-8")
        partial.replace(path)
    except OSError as e:
        raise ConfigError([Problem(str(path), 1, "", "", f"cannot be written: {e.strerror}")]) from e


@cache
def _engine_times() -> dict[str, ServiceModel]:
    with ENGINE_TIMES.open(encoding="utf-8", newline="") as file:
        return {row["name"]: _from_row(row) for row in csv.DictReader(file)}


def _from_row(row: dict[str, str]) -> ServiceModel:
    return ServiceModel(
        name=row["name"],
        mem_base_s=float(row["mem_base_s"]),
        cmp_base_s=float(row["cmp_base_s"]),
        cmp_token_s=float(row["cmp_token_s"]),
        kv_decode_s=float(row["kv_s"]),
        kv_mixed_s=float(row["kv_s"]),
        attn_pair_s=float(row["attn_pair_s"]),
        kv_tokens=int(row["kv_tokens"]),
        provenance=_provenance(row),
    )


def _provenance(row: dict[str, str]) -> str:
    parts = {"decode": row["error_decode"], "prefill": row["error_prefill"], "mixed": row["error_mixed"]}
    by_part = ", ".join(f"{part} {float(share):.1%}" for part, share in parts.items() if share)
    text = (
        f"{row['origin']}. Fitted to {row['points']} step times: mean error {float(row['error']):.1%}"
        f" ({by_part}), p95 {float(row['error_p95']):.1%}, maximum {float(row['error_max']):.1%}. GPU time only: real"
        " engines took 9 to 34% longer, so calibrate the model before you rely on TTFT."
    )
    return f"{text} Note: {row['note']}." if row["note"] else text
