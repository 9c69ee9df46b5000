"""Routes on AWS: a rule of an Application Load Balancer, and weighted records of Route 53."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Annotated, ClassVar, Final, Literal

from policies.model.field_metadata import FieldMetadata, Pattern
from policies.model.names import BackendName
from policies.model.pool import Target
from policies.model.route_spec import Route
from scaler.clouds.aws.account import AwsAccount

RULE_ARN: Final = Pattern(
    r"^arn:aws[a-z-]*:elasticloadbalancing:[a-z0-9-]{1,40}:[0-9]{12}:listener-rule/app/[A-Za-z0-9-]{1,32}(/[0-9a-z]{1,40}){3}$",
    "the ARN of a rule of an Application Load Balancer's listener",
)
MEASURED_AFTER_S: Final = 180.0
"""Maximum age of the beginning of a minute that CloudWatch reports: its 60 s, 60 s to settle, and 60 s until the next.
Seconds."""


@dataclass(frozen=True, kw_only=True)
class AwsRoute(Route):
    """Settings of every route on AWS."""

    can_reject: ClassVar[bool] = False
    """A weight cannot answer 503 with Retry-After."""

    account: Annotated[
        AwsAccount, FieldMetadata("AWS region, profile and endpoint. Default: those of the AWS SDK's environment.")
    ] = field(default_factory=AwsAccount)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.zero_replicas == "reject":
            yield "zero_replicas", "must be hold or overflow: weights cannot answer 503 with Retry-After"


@dataclass(frozen=True, kw_only=True)
class Alb(AwsRoute):
    """A rule of an Application Load Balancer, whose weights of target groups the daemon sets."""

    weight_total: ClassVar[int] = 999
    """The maximum weight of one target group, so that no weight exceeds it."""

    rule: Annotated[
        str,
        FieldMetadata(
            "ARN of the listener rule, which has one forward action with a target group for each backend. It must not"
            " be the listener's default rule, whose actions belong to the listener.",
            pattern=RULE_ARN,
            example="arn:aws:elasticloadbalancing:us-east-1:123456789012:listener-rule/app/llm/50dc6c495c0c9188/f2f7dc8efc522ab2/9683b2d02a6cabee",
        ),
    ]
    target_groups: Annotated[
        Mapping[BackendName, str],
        FieldMetadata(
            "Name of the target group of each backend. Default: none: a target group has the name of its backend.",
            example={"gpus": "vllm-h100"},
        ),
    ] = field(default_factory=dict)
    eject_s: Annotated[
        float,
        FieldMetadata(
            "Time without requests after the first ejection of a backend; the n-th one lasts n times as long, at most"
            " 300. The default of 240, and the minimum of 180, are longer than CloudWatch reports requests of before"
            " the ejection. Seconds.",
            ge=MEASURED_AFTER_S,
            le=3600,
        ),
    ] = 240.0
    slow_start_s: Annotated[
        float,
        FieldMetadata(
            "Time in which a backend gets its full share back after an ejection. The default of 300 lets CloudWatch"
            " report its requests before it has half of its share. Seconds.",
            ge=0,
            le=3600,
        ),
    ] = 300.0

    @property
    def rule_region(self) -> str:
        """The region of the rule."""
        return self.rule.split(":")[3]

    @property
    def own_account(self) -> AwsAccount:
        """The account with the region of the rule."""
        return replace(self.account, region=self.rule_region)

    def target_group(self, backend: BackendName) -> str:
        """Return the name of a backend's target group."""
        return self.target_groups.get(backend, backend)

    def targets(self, workload: str, route: str) -> tuple[Target, ...]:
        return (Target("ALB listener rule", (), self.rule),)  # an ARN is globally unique

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        if self.account.region not in {None, self.rule_region}:
            yield (
                "account",
                f"has the region {self.account.region}, and the rule is in {self.rule_region}; remove the region",
            )
        for name in self.target_groups:
            if name not in self.backends:
                yield "target_groups", f"names backend {name!r}, which is not in backends"
        if len({self.target_group(name) for name in self.backends}) < len(self.backends):
            yield "target_groups", "must not give two backends the same target group"
        if len(self.backends) > 5:
            yield "backends", "must not have more than 5 entries: a rule forwards to at most 5 target groups"


@dataclass(frozen=True, kw_only=True)
class Dns(AwsRoute):
    """Weighted records of Route 53 for one name, whose weights the daemon sets.

    Each backend is a region's pool.
    """

    weight_total: ClassVar[int] = 255
    """The maximum weight of one record, so that no weight exceeds it."""

    zone: Annotated[
        str,
        FieldMetadata(
            "ID of the hosted zone.",
            pattern=Pattern(r"^[A-Z0-9]{1,32}$", "at most 32 capital letters and digits"),
            example="Z0123456789ABCDEFGHIJ",
        ),
    ]
    name: Annotated[
        str,
        FieldMetadata(
            "Name of the records.",
            pattern=Pattern(
                r"^([A-Za-z0-9_][A-Za-z0-9_-]{0,62}\.){1,15}[A-Za-z0-9-]{1,63}\.?$", "a name without a wildcard"
            ),
            example="chat.example.com",
        ),
    ]
    record_type: Annotated[
        Literal["A", "AAAA", "CNAME"], FieldMetadata("Type of the records. Default: A, also for aliases.")
    ] = "A"
    records: Annotated[
        Mapping[BackendName, str],
        FieldMetadata(
            "SetIdentifier of the record of each backend. Default: none: a record has the name of its backend.",
            example={"gpus": "us-east-1"},
        ),
    ] = field(default_factory=dict)

    @property
    def full_name(self) -> str:
        """The name as Route 53 has it: in lower case, with a dot at its end."""
        return f"{self.name.lower().removesuffix('.')}."

    def record(self, backend: BackendName) -> str:
        """Return the SetIdentifier of a backend's record."""
        return self.records.get(backend, backend)

    def targets(self, workload: str, route: str) -> tuple[Target, ...]:
        return (Target("Route 53 weighted records", (), f"{self.zone} {self.full_name} {self.record_type}"),)

    def problems(self) -> Iterator[tuple[str, str]]:
        yield from super().problems()
        for name in self.providers:
            remedy = "a client's TLS and key do not fit it, and DNS counts no requests; use alb or envoy"
            yield "backends", f"must not have the provider {name!r}: {remedy}"
        for name in self.workloads:
            remedy = "use alb or envoy, or give one workload a pool in each region"
            yield "backends", f"must not have the workload {name!r}, since DNS counts no requests: {remedy}"
        if self.prefer == "locality":
            yield "prefer", "must not be locality: DNS counts no requests, and the clients of a name are everywhere"
        for name in self.records:
            if name not in self.backends:
                yield "records", f"names backend {name!r}, which is not in backends"
        if len({self.record(name) for name in self.backends}) < len(self.backends):
            yield "records", "must not give two backends the same record"
