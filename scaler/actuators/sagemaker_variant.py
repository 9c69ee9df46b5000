"""A production variant of a SageMaker endpoint: its instances.

All variants of an endpoint share its lock, so their writes share a queue. The count is absolute, without a token.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import aclosing
from typing import Any, Final

from policies.model import PoolName, WorkloadName
from scaler.clouds.aws.native_scaling import TargetKey
from scaler.clouds.aws.sagemaker import Described, SageMakerResizer, known_state, size
from scaler.clouds.response_validation import list_of, one_line, unavailable_if_malformed
from scaler.clouds.singleflight import Singleflight
from scaler.config.kinds.sagemaker_pools import SageMakerVariant
from scaler.ports import Context, Misconfigured

MANAGED: Final = (
    "SageMaker's managed instance scaling resizes this variant; use a sagemaker_inference_component pool for its copies"
)


async def open_sagemaker_variant(
    spec: SageMakerVariant, context: Context, workload: WorkloadName, pool: PoolName
) -> VariantResizer:
    """Open a variant of a SageMaker endpoint. Raises `Misconfigured`."""
    return await VariantResizer(spec, context, f"{workload}/{pool}").connect()


class VariantResizer(SageMakerResizer):
    """The actuator's port."""

    _describes: Singleflight

    def __init__(self, spec: SageMakerVariant, context: Context, pool: str) -> None:
        super().__init__(spec, context, f"SageMaker variant {spec.endpoint}/{spec.variant}", pool)
        self._spec = spec

    @property
    def _key(self) -> TargetKey:
        return TargetKey(
            f"endpoint/{self._spec.endpoint}/variant/{self._spec.variant}", "sagemaker:variant:DesiredInstanceCount"
        )

    async def _connect(self) -> None:
        await super()._connect()
        key = ("sagemaker-describes", self._account)
        self._describes = await self._context.shared(key, lambda: aclosing(Singleflight()))

    async def _describe(self, *, urgent: bool = False) -> Described:
        name = self._spec.endpoint

        async def call() -> Mapping[str, Any]:
            response: Mapping[str, Any] = await self._sagemaker.call(
                "DescribeEndpoint", name, write=urgent, repeat=True, EndpointName=name
            )
            return response

        endpoint = await call() if urgent else await self._describes.share(name, call)
        with unavailable_if_malformed(f"AWS sagemaker:DescribeEndpoint of {name}"):
            return self._parse(endpoint)

    async def _locked(self, replicas: int) -> str:
        return self._spec.endpoint

    def _parse(self, endpoint: Mapping[str, Any]) -> Described:
        variants = list_of("AWS sagemaker:DescribeEndpoint", endpoint, "ProductionVariants")
        variant = next((v for v in variants if v["VariantName"] == self._spec.variant), None)
        if variant is None:
            names = ", ".join(sorted(str(v["VariantName"]) for v in variants))
            raise Misconfigured(f"{self._what}: the endpoint has no such variant; it has {names}")
        if "CurrentServerlessConfig" in variant:
            raise Misconfigured(f"{self._what} is serverless, so it has no instances; remove the pool")
        messages = [str(s["StatusMessage"]) for s in variant.get("VariantStatus", ()) if s.get("StatusMessage")]
        managed = variant.get("ManagedInstanceScaling", {}).get("Status") == "ENABLED"
        return Described(
            self._spec.endpoint,
            size("DesiredInstanceCount", variant["DesiredInstanceCount"]),
            size("CurrentInstanceCount", variant["CurrentInstanceCount"]),
            known_state("the endpoint", endpoint["EndpointStatus"]),
            one_line(endpoint.get("FailureReason") or "; ".join(messages)),
            str(endpoint["EndpointArn"]),
            MANAGED if managed else "",
        )

    async def _write(self, replicas: int) -> str:
        response = await self._sagemaker.call(
            "UpdateEndpointWeightsAndCapacities",
            self._spec.endpoint,
            write=True,
            EndpointName=self._spec.endpoint,
            DesiredWeightsAndCapacities=[{"VariantName": self._spec.variant, "DesiredInstanceCount": replicas}],
        )
        return str(response.get("EndpointArn", ""))

    def _actions(self) -> Mapping[str, str]:
        writes = {} if self._mode == "floor" else {"sagemaker:UpdateEndpointWeightsAndCapacities": self._arn}
        return {"sagemaker:DescribeEndpoint": self._arn, **writes, **self._native_actions()}
