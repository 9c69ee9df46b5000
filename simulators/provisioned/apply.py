"""Shell script that applies a plan, or the steps where the provider has no API for them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from scaler.config.purchase import DAY_H, bedrock_commitment
from simulators.provisioned.plan import ThroughputPlan

AZURE_URL: Final = (
    "https://management.azure.com/subscriptions/$SUBSCRIPTION/resourceGroups/$RESOURCE_GROUP/providers"
    "/Microsoft.CognitiveServices/accounts/$ACCOUNT/deployments/$DEPLOYMENT?api-version=2024-10-01"
)


def script(plans: list[ThroughputPlan]) -> str:
    """Return a shell script for all plans. Each part names its plan."""
    lines = ["#!/bin/sh", "set -eu"]
    for plan in plans:
        lines += ["", *_steps(plan)]
    return "\n".join(lines) + "\n"


def held_text(plan: ThroughputPlan) -> str:
    """Return the units by term as text: ``45 PTU (year: 30, month: 15)``."""
    held, unit = plan.purchase.held, plan.named.unit.unit
    if not held:
        return f"no {unit}"
    terms = ", ".join(f"{name}: {units:,}" for name, units in held.items())
    return f"{plan.purchase.units:,} {unit} ({terms})"


def _steps(plan: ThroughputPlan) -> Iterator[str]:
    yield f"# Plan {plan.plan_id} of {plan.named.name}: hold {held_text(plan)}."
    if not plan.purchase.units:
        yield "# Pay-as-you-go alone is cheaper: there is nothing to buy."
        return
    match plan.named.unit.system:
        case "azure_openai":
            yield from _azure(plan)
        case "bedrock":
            yield from _bedrock(plan)
        case "vertex":
            yield "# Order it in the Google Cloud console (Vertex AI, Provisioned Throughput): one order for each term."
        case "bedrock_reserved":
            yield "# The AWS account team sells the reserved tier. Requests then need the service tier reserved."
        case _:
            yield "# Order it from the provider."


def _azure(plan: ThroughputPlan) -> Iterator[str]:
    """Yield the resize of the deployment, then the reservations.

    A reservation is a discount, not capacity.
    """
    body = f'{{"sku": {{"name": "{plan.named.unit.sku}", "capacity": {plan.purchase.units}}}}}'
    yield "# A lower size releases capacity, which may not come back."
    yield ': "${SUBSCRIPTION:?}" "${RESOURCE_GROUP:?}" "${ACCOUNT:?}" "${DEPLOYMENT:?}"'
    yield f'az rest --method PATCH --url "{AZURE_URL}" \\'
    yield f"  --body '{body}'"
    for name, units in plan.purchase.held.items():
        if plan.terms[name].term_h > DAY_H:
            yield f"# Once it is deployed, buy a reservation of {units:,} {plan.named.unit.unit} for the term {name}."


def _bedrock(plan: ThroughputPlan) -> Iterator[str]:
    """Yield one creation for each term.

    The units of an existing provisioned throughput cannot be changed.
    """
    yield "# Units need a quota from AWS support. Move requests to a new ARN only when its status is InService."
    yield ': "${MODEL_ID:?}" "${NAME:?}"'
    for number, (name, units) in enumerate(plan.purchase.held.items(), 1):
        term_h = plan.terms[name].term_h
        commitment = bedrock_commitment(term_h)
        if commitment is None:
            yield f"# Bedrock has no commitment of {term_h:,.0f} h: order {units:,} units for the term {name} from AWS."
            continue
        option = f" --commitment-duration {commitment}" if commitment else ""
        yield f'aws bedrock create-provisioned-model-throughput --model-id "$MODEL_ID" --model-units {units}{option} \\'
        yield f'  --provisioned-model-name "$NAME-{number}" --client-request-token {plan.plan_id}-{number}'
    if len(plan.purchase.held) == 1:
        yield from _pool(plan)
    yield "# A second run of the same plan creates nothing and reports success: the list shows what exists."
    yield 'aws bedrock list-provisioned-model-throughputs --name-contains "$NAME"'


def _pool(plan: ThroughputPlan) -> Iterator[str]:
    """Yield the plan as settings of a pool, which a person approves."""
    ((name, units),) = plan.purchase.held.items()
    price = plan.terms[name]
    if bedrock_commitment(price.term_h) is None:
        return
    yield "# Or let Forescale carry it out: a pool of kind bedrock_provisioned with these settings."
    yield f"#   offer: {plan.named.name}"
    yield f"#   term: {name}"
    yield f"#   term_h: {price.term_h!r}"
    yield f"#   price_usd_per_hour: {price.usd_per_unit_hour!r}"
    yield f"#   min_replicas: {units}"
    yield f"#   max_replicas: {units}"
    yield f"# Then forescale check --live reports its plan with the purchase {plan.plan_id}, and how to approve it."
