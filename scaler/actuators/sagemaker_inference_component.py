"""An inference component of a SageMaker endpoint: its copies, from and to zero.

SageMaker's managed instance scaling adds the instances that copies need, and removes them later. A component that is
being updated accepts no other count; other components of its endpoint do.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from policies.model import PoolName, WorkloadName
from scaler.clouds.aws.native_scaling import TargetKey
from scaler.clouds.aws.sagemaker import BUSY, Described, SageMakerResizer, known_state, size
from scaler.clouds.response_validation import one_line, unavailable_if_malformed
from scaler.config.kinds.sagemaker_pools import SageMakerInferenceComponent
from scaler.ports import Conflict, Context, Misconfigured


async def open_sagemaker_inference_component(
    spec: SageMakerInferenceComponent, context: Context, workload: WorkloadName, pool: PoolName
) -> ComponentResizer:
    """Open an inference component of a SageMaker endpoint. Raises `Misconfigured`."""
    return await ComponentResizer(spec, context, f"{workload}/{pool}").connect()


class ComponentResizer(SageMakerResizer):
    """The actuator's port."""

    def __init__(self, spec: SageMakerInferenceComponent, context: Context, pool: str) -> None:
        super().__init__(spec, context, f"SageMaker inference component {spec.component}", pool)
        self._component = spec.component

    @property
    def _key(self) -> TargetKey:
        return TargetKey(f"inference-component/{self._component}", "sagemaker:inference-component:DesiredCopyCount")

    async def _describe(self, *, urgent: bool = False) -> Described:
        name = self._component
        response = await self._sagemaker.call(
            "DescribeInferenceComponent", name, write=urgent, repeat=True, InferenceComponentName=name
        )
        with unavailable_if_malformed(f"AWS sagemaker:DescribeInferenceComponent of {name}"):
            return self._parse(response)

    def _parse(self, component: Mapping[str, Any]) -> Described:
        runtime = component.get("RuntimeConfig")
        if runtime is None:
            raise Misconfigured(f"{self._what} has no copies of its own: it is an adapter; use its base component")
        return Described(
            str(component["EndpointName"]),
            size("DesiredCopyCount", runtime["DesiredCopyCount"]),
            size("CurrentCopyCount", runtime["CurrentCopyCount"]),
            known_state("the component", component["InferenceComponentStatus"]),
            one_line(component.get("FailureReason") or ""),
            str(component["InferenceComponentArn"]),
        )

    async def _locked(self, replicas: int) -> str:
        described = await self._describe(urgent=True)
        if described.state in BUSY and described.desired != replicas:  # it does not hold back other components
            raise Conflict(f"{self._what} is {described.state}: it accepts one change at a time; it waits")
        return described.endpoint

    async def _write(self, replicas: int) -> str:
        response = await self._sagemaker.call(
            "UpdateInferenceComponentRuntimeConfig",
            self._component,
            write=True,
            InferenceComponentName=self._component,
            DesiredRuntimeConfig={"CopyCount": replicas},
        )
        return str(response.get("InferenceComponentArn", ""))

    def _actions(self) -> Mapping[str, str]:
        writes = {} if self._mode == "floor" else {"sagemaker:UpdateInferenceComponentRuntimeConfig": self._arn}
        return {"sagemaker:DescribeInferenceComponent": self._arn, **writes, **self._native_actions()}
