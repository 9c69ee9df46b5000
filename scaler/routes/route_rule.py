"""The backendRefs of a rule that splits requests, and the patch of their weights."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from policies.model.names import BackendName
from scaler.clouds.kubernetes.objects import Path, Writer, text_field, writer_of
from scaler.clouds.kubernetes.session import Body
from scaler.clouds.response_validation import list_of, one_line, unavailable_if_malformed
from scaler.config.kinds.gateway_routes import GatewayRoute, HttpRoute
from scaler.ports import Misconfigured, Unavailable
from scaler.routes.weighted_entries import entries_problem

RULES: Final[Path] = ("rules",)
"""The field whose writer the API server records: the list of rules is replaced as a whole."""
DEFAULT_WEIGHT: Final = 1
INFERENCE_POOL: Final = "InferencePool"


@dataclass(frozen=True, slots=True)
class BackendRef:
    """A backend in a rule.

    `weight` is None where the object states none: it is then 1.
    """

    name: str
    kind: str
    weight: int | None
    priority: int

    @property
    def applied_weight(self) -> int:
        return DEFAULT_WEIGHT if self.weight is None else self.weight


@dataclass(frozen=True, slots=True)
class RouteRule:
    """A rule as it was read, in an object with `version` and `generation`."""

    version: str
    generation: int
    index: int
    refs: tuple[BackendRef, ...]
    writer: Writer | None

    @property
    def names(self) -> tuple[str, ...]:
        return tuple(ref.name for ref in self.refs)

    @property
    def has_inference_pools(self) -> bool:
        """Whether requests are split among backends one of which is an InferencePool."""
        return len(self.refs) > 1 and any(ref.kind == INFERENCE_POOL for ref in self.refs)

    def weights(self, spec: GatewayRoute) -> dict[BackendName, int]:
        """Return the weight of each backend."""
        by_name = {ref.name: ref.applied_weight for ref in self.refs}
        return {backend: by_name[spec.ref(backend)] for backend in spec.backends}

    def patch(self, weights: Mapping[BackendName, int], spec: GatewayRoute) -> list[Body]:
        """Return the JSON patch that sets the weights, if nothing of what it depends on has changed."""
        wanted = {spec.ref(backend): weight for backend, weight in weights.items()}
        patch: list[Body] = [{"op": "test", "path": "/metadata/resourceVersion", "value": self.version}]
        for i, ref in enumerate(self.refs):
            if ref.name in wanted:
                path = f"/spec/rules/{self.index}/backendRefs/{i}"
                patch.append({"op": "test", "path": f"{path}/name", "value": ref.name})
                if ref.weight is not None:
                    patch.append({"op": "test", "path": f"{path}/weight", "value": ref.weight})
                patch.append({"op": "add", "path": f"{path}/weight", "value": wanted[ref.name]})
        return patch


def parse_rule(what: str, body: Mapping[str, Any], spec: GatewayRoute) -> RouteRule:
    """Parse the configured rule of an object.

    Raises `Misconfigured` where it does not fit the configuration, and `Unavailable` for a malformed one.
    """
    with unavailable_if_malformed(what):
        metadata = body["metadata"]
        rules = list_of(what, body["spec"], "rules")
        index = _index(what, rules, spec)
        refs = tuple(_ref(what, ref) for ref in rules[index].get("backendRefs") or ())
        rule = RouteRule(
            text_field(metadata, "resourceVersion"),
            int(metadata["generation"]),
            index,
            refs,
            writer_of(metadata.get("managedFields") or (), RULES),
        )
    if problem := _problem(rule, spec):
        raise Misconfigured(f"{what}: {spec.rule_words} {problem}")
    return rule


def _index(what: str, rules: Sequence[Mapping[str, Any]], spec: GatewayRoute) -> int:
    """Return the number of the configured rule. Raises `Misconfigured` without one."""
    name = spec.rule if isinstance(spec, HttpRoute) else None
    if name is not None:
        names = [rule.get("name") for rule in rules]
        if name in names:
            return names.index(name)
        known = ", ".join(str(n) for n in names if n) or "none has a name"
        raise Misconfigured(f"{what}: has no rule {name!r} (names: {known}); correct rule, or set rule_index")
    if spec.rule_index is not None:
        if spec.rule_index < len(rules):
            return spec.rule_index
        raise Misconfigured(f"{what}: has {len(rules)} rules, so none has the number {spec.rule_index}; set rule_index")
    if len(rules) != 1:
        keys = "rule or rule_index" if isinstance(spec, HttpRoute) else "rule_index"
        raise Misconfigured(f"{what}: has {len(rules)} rules; set {keys} to that of this workload")
    return 0


def _ref(what: str, ref: Mapping[str, Any]) -> BackendRef:
    weight = None if ref.get("weight") is None else count_of(what, ref["weight"])
    return BackendRef(
        text_field(ref, "name"), str(ref.get("kind", "Service")), weight, count_of(what, ref.get("priority", 0))
    )


def count_of(what: str, value: object) -> int:
    """Return a weight or priority. Raises `Unavailable` for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise Unavailable(f"{what}: malformed response: {one_line(repr(value))} is not a weight or priority")
    return value


def _problem(rule: RouteRule, spec: GatewayRoute) -> str:
    """Return why the rule does not fit the configured backends; empty where it does."""
    configured = {spec.ref(backend): backend for backend in spec.backends}
    if problem := entries_problem(
        "backendRef", "refs", configured, [(ref.name, ref.applied_weight) for ref in rule.refs]
    ):
        return problem
    if len({ref.priority for ref in rule.refs}) > 1:
        return "has backendRefs of several priorities, among which weights split nothing; give them one priority"
    return ""
