"""The kinds of policies, sources, pools and routes by name, imported on use.

A process loads only the kinds it uses.
"""

from __future__ import annotations

import difflib
import importlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib.metadata import entry_points
from typing import Any, Final

from policies.recommend.registry import POLICIES


@dataclass(frozen=True, slots=True)
class Kind:
    """A kind of source, pool or route.

    It has its configuration record, and the function that opens its adapter.

    Both are "module:name". The record's module imports no SDK; the adapter's module, and its SDK, is imported when the
    first adapter of the kind is opened. `extra` is the extra of the distribution that installs the SDK.
    """

    spec: str
    open: str
    extra: str = ""


ENTRY_POINTS: Final = "forescale.kinds"
"""Entry point group by which other packages add kinds, as ``pool.embedded.spec`` and ``pool.embedded.open``."""


def _kinds(registry: str, builtin: Mapping[str, Kind]) -> Mapping[str, Kind]:
    """Return the built-in kinds and those of other packages, by name."""
    plugins: dict[str, dict[str, str]] = {}
    for point in entry_points(group=ENTRY_POINTS):
        noun, kind, field = point.name.split(".")
        if noun == registry:
            plugins.setdefault(kind, {})[field] = point.value
    return dict(sorted({**{kind: Kind(**fields) for kind, fields in plugins.items()}, **builtin}.items()))


SOURCES: Final = _kinds(
    "source",
    {
        "azure_monitor": Kind(
            "scaler.config.kinds.azure_sources:AzureMonitor", "scaler.sources.azure_monitor:open_azure_monitor", "azure"
        ),
        "cloud_monitoring": Kind(
            "scaler.config.kinds.gcp_sources:CloudMonitoring",
            "scaler.sources.cloud_monitoring:open_cloud_monitoring",
            "gcp",
        ),
        "cloudwatch": Kind(
            "scaler.config.kinds.aws_sources:CloudWatch", "scaler.sources.cloudwatch:open_cloudwatch", "aws"
        ),
        "http_json": Kind("scaler.config.kinds.http_json:HttpJson", "scaler.sources.http_json:open_http_json"),
        "kafka": Kind("scaler.config.kinds.kafka:Kafka", "scaler.sources.kafka:open_kafka", "kafka"),
        "modal": Kind("scaler.config.kinds.modal:ModalStats", "scaler.sources.modal:open_modal", "modal"),
        "postgresql": Kind(
            "scaler.config.kinds.postgresql:PostgreSql", "scaler.sources.postgresql:open_postgresql", "postgresql"
        ),
        "prometheus": Kind("scaler.config.kinds.prometheus:Prometheus", "scaler.sources.prometheus:open_prometheus"),
        "pubsub": Kind("scaler.config.kinds.gcp_sources:PubSub", "scaler.sources.pubsub:open_pubsub", "gcp"),
        "rabbitmq": Kind("scaler.config.kinds.rabbitmq:RabbitMq", "scaler.sources.rabbitmq:open_rabbitmq"),
        "redis": Kind("scaler.config.kinds.redis:Redis", "scaler.sources.redis:open_redis", "redis"),
        "scrape": Kind("scaler.config.kinds.engines:Scrape", "scaler.sources.scrape:open_scrape"),
        "service_bus": Kind(
            "scaler.config.kinds.azure_sources:ServiceBus", "scaler.sources.service_bus:open_service_bus", "azure"
        ),
        "sqs": Kind("scaler.config.kinds.aws_sources:Sqs", "scaler.sources.sqs:open_sqs", "aws"),
    },
)

POOLS: Final = _kinds(
    "pool",
    {
        "aks_agent_pool": Kind(
            "scaler.config.kinds.azure_pools:AksAgentPool",
            "scaler.actuators.aks_agent_pool:open_aks_agent_pool",
            "azure",
        ),
        "asg": Kind("scaler.config.kinds.aws_pools:Asg", "scaler.actuators.asg:open_asg", "aws"),
        "asg_warm_pool": Kind(
            "scaler.config.kinds.aws_pools:AsgWarmPool", "scaler.actuators.asg_warm_pool:open_asg_warm_pool", "aws"
        ),
        "azure_ml_deployment": Kind(
            "scaler.config.kinds.azure_managed_pools:AzureMlDeployment",
            "scaler.actuators.azure_ml_deployment:open_azure_ml_deployment",
            "azure",
        ),
        "azure_openai_ptu": Kind(
            "scaler.config.kinds.azure_managed_pools:AzureOpenAiPtu",
            "scaler.actuators.azure_openai_ptu:open_azure_openai_ptu",
            "azure",
        ),
        "bedrock_provisioned": Kind(
            "scaler.config.kinds.bedrock_pools:BedrockProvisioned",
            "scaler.actuators.bedrock_provisioned:open_bedrock_provisioned",
            "aws",
        ),
        "capacity_buffer": Kind(
            "scaler.config.kinds.kubernetes:CapacityBuffer",
            "scaler.actuators.capacity_buffer:open_capacity_buffer",
            "kubernetes",
        ),
        "cloud_run_service": Kind(
            "scaler.config.kinds.gcp_managed_pools:CloudRunService",
            "scaler.actuators.cloud_run_service:open_cloud_run_service",
            "gcp",
        ),
        "cloud_run_worker_pool": Kind(
            "scaler.config.kinds.gcp_managed_pools:CloudRunWorkerPool",
            "scaler.actuators.cloud_run_worker_pool:open_cloud_run_worker_pool",
            "gcp",
        ),
        "ec2_fleet": Kind("scaler.config.kinds.aws_pools:Ec2Fleet", "scaler.actuators.ec2_fleet:open_ec2_fleet", "aws"),
        "ec2_instant_fleet": Kind(
            "scaler.config.kinds.aws_pools:Ec2InstantFleet",
            "scaler.actuators.ec2_instant_fleet:open_ec2_instant_fleet",
            "aws",
        ),
        "eks_node_group": Kind(
            "scaler.config.kinds.aws_pools:EksNodeGroup", "scaler.actuators.eks_node_group:open_eks_node_group", "aws"
        ),
        "gce_mig": Kind("scaler.config.kinds.gcp_pools:GceMig", "scaler.actuators.gce_mig:open_gce_mig", "gcp"),
        "gce_mig_standby": Kind(
            "scaler.config.kinds.gcp_pools:GceMigStandby",
            "scaler.actuators.gce_mig_standby:open_gce_mig_standby",
            "gcp",
        ),
        "gke_node_pool": Kind(
            "scaler.config.kinds.gcp_pools:GkeNodePool", "scaler.actuators.gke_node_pool:open_gke_node_pool", "gcp"
        ),
        "gke_tpu_slices": Kind(
            "scaler.config.kinds.gcp_pools:GkeTpuSlices", "scaler.actuators.gke_tpu_slices:open_gke_tpu_slices", "gcp"
        ),
        "karpenter_node_pool": Kind(
            "scaler.config.kinds.kubernetes:KarpenterNodePool",
            "scaler.actuators.karpenter_node_pool:open_karpenter_node_pool",
            "kubernetes",
        ),
        "kserve": Kind("scaler.config.kinds.kserve:KServe", "scaler.actuators.kserve:open_kserve", "kubernetes"),
        "kubernetes": Kind(
            "scaler.config.kinds.kubernetes:Kubernetes", "scaler.actuators.kubernetes:open_kubernetes", "kubernetes"
        ),
        "modal": Kind("scaler.config.kinds.modal:ModalFunction", "scaler.actuators.modal:open_modal", "modal"),
        "published": Kind(
            "scaler.config.kinds.kubernetes:Published", "scaler.actuators.published:open_published", "kubernetes"
        ),
        "sagemaker_inference_component": Kind(
            "scaler.config.kinds.sagemaker_pools:SageMakerInferenceComponent",
            "scaler.actuators.sagemaker_inference_component:open_sagemaker_inference_component",
            "aws",
        ),
        "sagemaker_variant": Kind(
            "scaler.config.kinds.sagemaker_pools:SageMakerVariant",
            "scaler.actuators.sagemaker_variant:open_sagemaker_variant",
            "aws",
        ),
        "vertex_endpoint": Kind(
            "scaler.config.kinds.gcp_managed_pools:VertexEndpoint",
            "scaler.actuators.vertex_endpoint:open_vertex_endpoint",
            "gcp",
        ),
        "vllm_sleep": Kind("scaler.config.kinds.engines:VllmSleep", "scaler.actuators.vllm_sleep:open_vllm_sleep"),
        "vmss": Kind("scaler.config.kinds.azure_pools:Vmss", "scaler.actuators.vmss:open_vmss", "azure"),
        "vmss_standby_pool": Kind(
            "scaler.config.kinds.azure_pools:VmssStandbyPool",
            "scaler.actuators.vmss_standby_pool:open_vmss_standby_pool",
            "azure",
        ),
    },
)

ROUTES: Final = _kinds(
    "route",
    {
        "ai_gateway_route": Kind(
            "scaler.config.kinds.gateway_routes:AiGatewayRoute",
            "scaler.routes.ai_gateway_route:open_ai_gateway_route",
            "kubernetes",
        ),
        "alb": Kind("scaler.config.kinds.aws_routes:Alb", "scaler.routes.alb:open_alb", "aws"),
        "dns": Kind("scaler.config.kinds.aws_routes:Dns", "scaler.routes.dns:open_dns", "aws"),
        "envoy": Kind("scaler.config.kinds.envoy:Envoy", "scaler.routes.envoy:open_envoy"),
        "http_route": Kind(
            "scaler.config.kinds.gateway_routes:HttpRoute", "scaler.routes.http_route:open_http_route", "kubernetes"
        ),
        "kserve_group": Kind(
            "scaler.config.kinds.kserve_group:KServeGroup", "scaler.routes.kserve_group:open_kserve_group", "kubernetes"
        ),
        "litellm": Kind("scaler.config.kinds.litellm:LiteLlm", "scaler.routes.litellm:open_litellm"),
    },
)

REGISTRIES: Final[Mapping[str, Mapping[str, str]]] = {
    "policy": POLICIES,
    "source": {kind: entry.spec for kind, entry in SOURCES.items()},
    "pool": {kind: entry.spec for kind, entry in POOLS.items()},
    "route": {kind: entry.spec for kind, entry in ROUTES.items()},
}
"""Each kind's record, as "module:Class"."""


@cache
def import_object(path: str) -> Any:
    """Import the object at "module:name"."""
    module, _, name = path.partition(":")
    return getattr(importlib.import_module(module), name)


def resolve(registry: str, kind: str) -> Any:
    """Return the record class of a kind."""
    return import_object(REGISTRIES[registry][kind])


def kind_of(registry: str, spec: object) -> str:
    """Return the kind under which the class of `spec` is registered."""
    path = f"{type(spec).__module__}:{type(spec).__name__}"
    return next(kind for kind, registered in REGISTRIES[registry].items() if registered == path)


def did_you_mean(word: str, known: list[str]) -> str:
    """Return a hint for a mistyped word, or the empty string."""
    close = difflib.get_close_matches(word, known, n=1, cutoff=0.6) or [w for w in known if word and w.startswith(word)]
    return f"did you mean {close[0]!r}?" if close else ""
