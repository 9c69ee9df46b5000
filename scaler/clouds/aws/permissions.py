"""Permissions of the daemon's identity, by IAM's policy simulator, which writes nothing.

The simulator needs a permission itself (iam:SimulatePrincipalPolicy on the role); without it the result is "not known".
It ignores conditions of service control policies and session policies.
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
    """Return IAM's verdict for each action (its IAM name, and the ARN of its resource).

    Raises port errors.
    """
    sts = await session.service(context, "sts", account)
    iam = await session.service(context, "iam", account)
    caller = str((await sts.call("GetCallerIdentity"))["Arn"])
    match = ASSUMED.match(caller)
    principal = f"arn:{match[1]}:iam::{match[2]}:role/{match[3]}" if match else caller
    permits: list[Permit] = []
    for resource in sorted(set(actions.values())):
        names = sorted(action for action, target in actions.items() if target == resource)
        try:
            response = await iam.call(
                "SimulatePrincipalPolicy",
                principal,
                PolicySourceArn=principal,
                ActionNames=names,
                ResourceArns=[resource],
            )
        except Misconfigured as e:
            permits += [Permit(action, None, f"unknown: {e}") for action in names]
            continue
        for result in response.get("EvaluationResults", ()):
            decision = str(result.get("EvalDecision", ""))
            detail = "" if decision == "allowed" else f"{decision} for {principal} on {resource}"
            permits.append(Permit(str(result.get("EvalActionName")), decision == "allowed", detail))
    return permits
