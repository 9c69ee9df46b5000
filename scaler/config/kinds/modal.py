"""Functions and servers of Modal: their autoscaler settings and statistics."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import YIELD_S, OtherWriterYield, Pool, Target
from scaler.config.secret import Secret

NAME: Final = Pattern(r"^[a-zA-Z0-9_.-]{1,63}$", "at most 63 letters, digits and - _ .")
FUNCTION: Final = Pattern(r"^[a-zA-Z_][a-zA-Z0-9_]{0,199}$", "the name of a function, without a dot")
FUNCTION_ID: Final = Pattern(r"^fu-[a-zA-Z0-9]{1,100}$", "the ID of a function: fu- and letters or digits")
FUNCTION_QUANTITIES: Final = {
    "waiting": "backlog",
    "running": "num_running_inputs",
    "replicas": "num_total_runners",
    "input_headroom": "input_headroom",
}
"""The name of each quantity of a function in Modal's `FunctionCurrentStats`."""
LATENCIES: Final = {"ttft": "time_to_first_token", "itl": "inter_token_latency", "e2e": "end_to_end_latency"}
"""The names of the engines' latencies in Modal's `ServerStats`, which are in seconds."""
PERCENTILES: Final = (50, 90, 95, 99)
SCALARS: Final = {
    "prompt_tokens_per_s": "input_tokens_per_second",
    "cached_prompt_tokens_per_s": "cached_input_tokens_per_second",
    "generation_tokens_per_s": "output_tokens_per_second",
}
"""The name of each rate of an engine in Modal's `ServerStats`."""
RATES: Final = ("requests_per_s", "errors_per_s")


@dataclass(frozen=True, kw_only=True)
class ModalTokens:
    """The API token of a Modal workspace."""

    token_id: Annotated[
        Secret | None,
        FieldMetadata("Reference to the ID of the token. Default: null, the SDK's own (MODAL_TOKEN_ID or its file)."),
    ] = None
    token_secret: Annotated[
        Secret | None, FieldMetadata("Reference to the secret of the token. Set it with token_id. Default: null.")
    ] = None

    def problems(self) -> Iterator[tuple[str, str]]:
        if (self.token_id is None) != (self.token_secret is None):
            yield "", "requires token_id and token_secret together, or neither"

    @property
    def identity(self) -> tuple[str, ...]:
        """The place of the token. Equal ones are one workspace."""
        return (repr(self.token_id), repr(self.token_secret))


@dataclass(frozen=True, kw_only=True)
class ModalName:
    """A function, class or server of a deployed app, and the token of its workspace."""

    app: Annotated[
        str | None,
        FieldMetadata("Name of the deployed app. Default: null; set it with function.", pattern=NAME, example="llm"),
    ] = None
    function: Annotated[
        str | None,
        FieldMetadata(
            "Name of the function, or of the class of a server, in the app. Default: null; set function_id for another"
            " class.",
            pattern=FUNCTION,
            example="generate",
        ),
    ] = None
    function_id: Annotated[
        str | None,
        FieldMetadata(
            "ID of the function, in place of app and function. A class has one too. Default: null.",
            pattern=FUNCTION_ID,
            example=None,
        ),
    ] = None
    environment: Annotated[
        str | None, FieldMetadata("Modal environment of the app. Default: null, the workspace's own.", pattern=NAME)
    ] = None
    tokens: Annotated[ModalTokens, FieldMetadata("API token of the workspace.")] = field(default_factory=ModalTokens)

    def problems(self) -> Iterator[tuple[str, str]]:
        named = self.app is not None and self.function is not None
        if self.function_id is None and not named:
            yield "function", "is required with app, or set function_id"
        if self.function_id is not None and (self.app is not None or self.function is not None):
            yield "function_id", "must be null with app or function: it names the function alone"

    @property
    def title(self) -> str:
        """Name of the object in messages."""
        return self.function_id or f"{self.app}/{self.function}"


@dataclass(frozen=True, kw_only=True)
class ModalFunction(ModalName, Pool):
    """The containers of a Modal function or class."""

    sized_by: Annotated[
        Literal["minimum", "exact"],
        FieldMetadata(
            "minimum sets min_containers, and Modal's autoscaler still adds containers for requests above it. exact"
            " sets min_containers and max_containers alike, which turns the autoscaler off. Default: minimum."
        ),
    ] = "minimum"
    buffer_containers: Annotated[
        int | None,
        FieldMetadata(
            "Idle containers that Modal keeps beyond the present requests. A value is written again after each"
            " deployment. Default: null, as deployed. Containers.",
            ge=0,
            le=1000,
        ),
    ] = None
    scaledown_window_s: Annotated[
        int | None,
        FieldMetadata(
            "Time that an idle container above the minimum stays. A value is written again after each deployment."
            " Default: null, as deployed. Seconds.",
            ge=2,
            le=3600,
        ),
    ] = None
    other_writer_yield_s: OtherWriterYield = YIELD_S

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.sized_by == "exact" and not self.min_replicas:
            yield "min_replicas", "must be at least 1 with sized_by: exact: Modal has no max_containers of 0"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("Modal function", (*self.tokens.identity, self.environment or ""), self.title),)


def latency_quantity(latency: str, percentile: int) -> str:
    """Return the quantity of a percentile, such as `ttft_p95_s`."""
    return f"{latency}_p{percentile}_s"


@dataclass(frozen=True, kw_only=True)
class ModalStats(ModalName):
    """The statistics of a Modal function or server, as Modal's SDK returns them."""

    of: Annotated[
        Literal["function", "server"],
        FieldMetadata(
            "function reads the present inputs and containers of a function or class. server reads the requests of a"
            " server (@app.server), and the latencies and tokens of the vLLM or SGLang in it. Default: function."
        ),
    ] = "function"
    window_s: Annotated[
        float,
        FieldMetadata(
            "Time range of the rates and percentiles of a server. The default of 300 is five minutes: a shorter one"
            " follows the load faster, from fewer requests. Seconds.",
            ge=60,
            le=604_800,
        ),
    ] = 300.0
    max_age_s: Annotated[
        float, FieldMetadata("Treat older values as stale. The default of 60 is four ticks of 15 s. Seconds.", gt=0)
    ] = 60.0

    def quantities(self) -> Mapping[str, float]:
        latencies = [latency_quantity(name, percentile) for name in LATENCIES for percentile in PERCENTILES]
        provided = FUNCTION_QUANTITIES if self.of == "function" else (*RATES, *SCALARS, *latencies)
        return dict.fromkeys(provided, self.max_age_s)
