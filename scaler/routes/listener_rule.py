"""The actions of a load balancer's listener rule, and the same with other weights."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from policies.model.names import BackendName
from scaler.clouds.response_validation import list_of, unavailable_if_malformed
from scaler.config.kinds.aws_routes import Alb
from scaler.ports import Misconfigured
from scaler.routes.weighted_entries import entries_problem

FORWARD: Final = "forward"
OIDC: Final = "AuthenticateOidcConfig"
MAX_WEIGHT: Final = 999


@dataclass(frozen=True, slots=True)
class TargetGroup:
    """A target group of a forward action."""

    arn: str
    weight: int

    @property
    def name(self) -> str:
        return self.arn.split("/")[1]

    @property
    def dimension(self) -> str:
        """The target group as CloudWatch names it: the last part of its ARN."""
        return self.arn.rpartition(":")[2]


@dataclass(frozen=True, slots=True)
class ListenerRule:
    """A rule's actions as they were read, and its target groups.

    `index` is that of the forward action.
    """

    actions: tuple[Mapping[str, Any], ...]
    index: int
    target_groups: tuple[TargetGroup, ...]

    def of(self, spec: Alb) -> dict[BackendName, TargetGroup]:
        """Return the target group of each backend."""
        by_name = {group.name: group for group in self.target_groups}
        return {backend: by_name[spec.target_group(backend)] for backend in spec.backends}

    def weights(self, spec: Alb) -> dict[BackendName, int]:
        """Return the weight of each backend."""
        return {backend: group.weight for backend, group in self.of(spec).items()}

    def with_weights(self, weights: Mapping[BackendName, int], spec: Alb) -> list[dict[str, Any]]:
        """Return the actions with other weights, and nothing else changed.

        AWS replaces all actions of a rule, and does not return the client secret of an OIDC action. So the request
        names the existing one.
        """
        by_name = {spec.target_group(backend): weight for backend, weight in weights.items()}
        groups = [
            {"TargetGroupArn": group.arn, "Weight": by_name.get(group.name, group.weight)}
            for group in self.target_groups
        ]
        actions = [_with_existing_secret(action) for action in self.actions]
        forward = actions[self.index]
        forward.pop("TargetGroupArn", None)
        forward["ForwardConfig"] = {**forward.get("ForwardConfig", {}), "TargetGroups": groups}
        return actions


def _with_existing_secret(action: Mapping[str, Any]) -> dict[str, Any]:
    if OIDC not in action:
        return dict(action)
    return {**action, OIDC: {**action[OIDC], "UseExistingClientSecret": True}}


def parse_listener_rule(what: str, response: Mapping[str, Any], spec: Alb) -> ListenerRule:
    """Parse the one rule of a response.

    Raises `Misconfigured` where it does not fit the configuration, and `Unavailable` for a malformed one.
    """
    with unavailable_if_malformed(what):
        (described,) = list_of(what, response, "Rules")
        if described["RuleArn"] != spec.rule:
            raise ValueError("the response has another rule")
        if described.get("IsDefault"):
            remedy = "add a rule with the condition path-pattern /* and name that one"
            raise Misconfigured(f"{what}: it is the default rule, which belongs to the listener; {remedy}")
        actions = tuple(list_of(what, described, "Actions"))
        forwards = [i for i, action in enumerate(actions) if action["Type"] == FORWARD]
        if not forwards:
            kinds = ", ".join(str(action["Type"]) for action in actions)
            raise Misconfigured(f"{what}: it has no forward action (actions: {kinds}); add one with the target groups")
        rule = ListenerRule(actions, forwards[0], _target_groups(actions[forwards[0]]))
    configured = {spec.target_group(backend): backend for backend in spec.backends}
    entries = [(group.name, group.weight) for group in rule.target_groups]
    if problem := entries_problem("target group", "target_groups", configured, entries):
        raise Misconfigured(f"{what}: the rule {problem}")
    return rule


def _target_groups(action: Mapping[str, Any]) -> tuple[TargetGroup, ...]:
    """Return the target groups of a forward action.

    One alone needs no weight, and gets all requests.
    """
    listed = action.get("ForwardConfig", {}).get("TargetGroups") or [{"TargetGroupArn": action["TargetGroupArn"]}]
    default = {"Weight": 1} if len(listed) == 1 else {}
    return tuple(_target_group({**default, **entry}) for entry in listed)


def _target_group(entry: Mapping[str, Any]) -> TargetGroup:
    arn, weight = str(entry["TargetGroupArn"]), entry["Weight"]
    if ":targetgroup/" not in arn:
        raise ValueError("the ARN of a target group is malformed")
    if isinstance(weight, bool) or not isinstance(weight, int) or not 0 <= weight <= MAX_WEIGHT:
        raise ValueError("a weight is outside 0 to 999")
    return TargetGroup(arn, weight)
