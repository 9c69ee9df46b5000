"""Permissions of the daemon's identity, by IAM's policy simulator: checking writes nothing.

The simulator needs a permission of its own (iam:SimulatePrincipalPolicy on the role itself); without it the result
is "not known". It does not know of service control policies' conditions or of session policies.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Final

from scaler.clouds.aws import session
from scaler.ports import Misconfigured, Permit

if TYPE_CHECKING:
    from scaler.clouds.aws.account import AwsAccount
    from scaler.ports import Context

ASSUMED: Final = re.compile(r"^arn:(aws[a-z-]*):sts::([0-9]+):assumed-role/([^/]+)/")


async def check_permissions(context: Context, account: AwsAccount, actions: Mapping[str, str]) -> Sequence[Permit]:
    """Return what IAM answers for each action (by its IAM name, with the ARN of its resource).

    Raises port errors.
    """
    sts = await session.service(context, "sts", account)
    iam = await session.service(context, "iam", account)
    caller = str((await sts.call("GetCallerIdentity"))["Arn"])
    found = ASSUMED.match(caller)
    who = f"arn:{found[1]}:iam::{found[2]}:role/{found[3]}" if found else caller
    permits: list[Permit] = []
    for resource in sorted(set(actions.values())):
        names = sorted(action for action, on in actions.items() if on == resource)
        try:
            answer = await iam.call(
                "SimulatePrincipalPolicy", who, PolicySourceArn=who, ActionNames=names, ResourceArns=[resource]
            )
        except Misconfigured as e:
            permits += [Permit(action, None, f"not known: {e}") for action in names]
            continue
        for result in answer.get("EvaluationResults", ()):
            decision = str(result.get("EvalDecision", ""))
            detail = "" if decision == "allowed" else f"{decision} to {who} on {resource}"
            permits.append(Permit(str(result.get("EvalActionName")), decision == "allowed", detail))
    return permits
