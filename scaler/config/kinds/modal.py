"""Functions of Modal whose autoscaler settings are resized."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.pool import YIELD_S, OtherWriterYield, Pool, Target
from scaler.config.secret import Secret

NAME: Final = Pattern(r"^[a-zA-Z0-9_.-]{1,63}$", "at most 63 letters, digits and - _ .")
FUNCTION: Final = Pattern(r"^[a-zA-Z_][a-zA-Z0-9_]{0,199}$", "the name of a function, without a dot")
FUNCTION_ID: Final = Pattern(r"^fu-[a-zA-Z0-9]{1,100}$", "the ID of a function: fu- and letters or digits")


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
class ModalFunction(Pool):
    """The containers of a Modal function or class."""

    app: Annotated[
        str | None,
        FieldMetadata("Name of the deployed app. Default: null; set it with function.", pattern=NAME, example="llm"),
    ] = None
    function: Annotated[
        str | None,
        FieldMetadata(
            "Name of the function in the app. Default: null; set function_id for a class.",
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
        named = self.app is not None and self.function is not None
        if self.function_id is None and not named:
            yield "function", "is required with app, or set function_id"
        if self.function_id is not None and (self.app is not None or self.function is not None):
            yield "function_id", "must be null with app or function: it names the function alone"
        if self.sized_by == "exact" and not self.min_replicas:
            yield "min_replicas", "must be at least 1 with sized_by: exact: Modal has no max_containers of 0"

    @property
    def title(self) -> str:
        """Name of the function in messages."""
        return self.function_id or f"{self.app}/{self.function}"

    def targets(self, workload: str, pool: str) -> tuple[Target, ...]:
        return (Target("Modal function", (*self.tokens.identity, self.environment or ""), self.title),)
