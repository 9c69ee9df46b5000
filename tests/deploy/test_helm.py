"""The Helm chart: lint, refusals, its configuration, and its equality with the plain manifests."""

from __future__ import annotations

import json
import tarfile
import tomllib
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml

from policies.model import WorkloadName
from scaler.config.load import Config, load
from tests.deploy.charts import (
    CHART,
    DEPLOY,
    EXAMPLES,
    Object,
    chart,
    container,
    example,
    gateway,
    helm,
    one,
    render,
    with_workloads,
)
from tests.docs.test_code_blocks import ROOT, blocks
from tests.servers.kube_real import manifests

pytestmark = pytest.mark.slow
EXAMPLE_NAMES = sorted(path.stem for path in EXAMPLES.glob("*.yaml"))
HELM_LABELS = {"helm.sh/chart", *(f"app.kubernetes.io/{key}" for key in ("instance", "version", "managed-by"))}
WARNING = 2


def written(objects: list[Object], folder: Path) -> Config:
    """Return the configuration that the daemon loads from the rendered ConfigMap, with the Secret in the folder."""
    (folder / "token").write_text("secret")
    folder = folder / "etc"
    folder.mkdir()
    (configuration,) = [o for o in objects if o["kind"] == "ConfigMap" and o["metadata"]["name"] == "forescale"]
    for name, text in configuration["data"].items():
        (folder / name).write_text(text.replace("/etc/forescale-http", str(folder.parent)))
    return load([folder])


def plain(value: Any) -> Any:
    """Return a value without Helm's labels."""
    if isinstance(value, list):
        return [plain(v) for v in value]
    if isinstance(value, dict):
        return {key: plain(v) for key, v in value.items() if key not in HELM_LABELS}
    return value


def test_chart_grants_what_the_plain_manifest_of_workloads_grants() -> None:
    followed = {"namespaces": ["default"], "config_maps": True}
    rendered = render({"crd": {"install": True}, "daemon": {"kubernetes_workloads": followed}})
    crd = one(rendered, "CustomResourceDefinition")
    assert crd["metadata"].pop("annotations") == {"helm.sh/resource-policy": "keep"}
    shipped = comparable([*manifests("kubernetes-workloads"), *manifests("workload-crd")])
    assert {key: made for key, made in comparable(rendered).items() if key in shipped} == shipped


def test_chart_grants_leases_in_their_own_namespace_only_with_ha() -> None:
    rendered = comparable(render(with_workloads({"daemon": {"ha": {}}})))
    shipped = comparable(manifests("kubernetes-leases"))
    assert {key: made for key, made in rendered.items() if key in shipped} == shipped
    elsewhere = comparable(render(with_workloads({"daemon": {"ha": {"lease": {"namespace": "ops"}}}})))
    for key in shipped:
        assert elsewhere[key]["metadata"]["namespace"] == "ops"
    assert not comparable(render(with_workloads({}))).keys() & shipped.keys()


def test_daemon_follows_every_namespace_only_with_a_cluster_role(tmp_path: Path) -> None:
    values = {"workloads": {}, "daemon": {"kubernetes_workloads": {"namespaces": ["*"]}}}
    rendered = render(values)
    rules = one(rendered, "ClusterRole")["rules"]
    assert [rule for rule in one(rendered, "Role")["rules"] if rule not in rules] == []
    assert {"apiGroups": ["forescale.io"], "resources": ["workloads"], "verbs": ["list", "watch"]} in rules
    assert "configmaps" not in {resource for rule in rules for resource in rule["resources"]}
    followed = written(rendered, tmp_path).daemon.kubernetes_workloads
    assert followed is not None
    assert followed.namespaces == ("*",)


def comparable(objects: list[Object]) -> dict[tuple[str, str], Any]:
    """Return objects by kind and name, without the labels of their metadata and a namespace `default`."""
    by_name = {}
    for made in map(plain, objects):
        made["metadata"].pop("labels", None)
        for place in (made["metadata"], *made.get("subjects", [])):
            if place.get("namespace") == "default":
                place.pop("namespace")
        if made["kind"] == "ConfigMap":
            made["data"] = {name: yaml.safe_load(text) for name, text in made["data"].items()}
        by_name[made["kind"], made["metadata"]["name"]] = made
    return by_name


def test_chart_renders_the_plain_manifests() -> None:
    """With one workload and permissions on nodes, the chart equals both plain manifests."""
    rendered = render({**example("llama-chat"), "rbac": {"nodes": True}})
    assert comparable(rendered) == comparable([*manifests(), *manifests("kubernetes-nodes")])


def test_versions_equal_the_package_version() -> None:
    version = tomllib.loads((DEPLOY.parents[1] / "pyproject.toml").read_text())["project"]["version"]
    meta = chart().metadata
    dependency = yaml.safe_load((EXAMPLES / "gateway/Chart.yaml").read_text())["dependencies"][0]["version"]
    assert (meta["version"], meta["appVersion"], dependency) == (version, version, version)


@pytest.mark.parametrize("name", [None, *EXAMPLE_NAMES])
def test_lint_has_no_warning(name: str | None) -> None:
    report = helm().lint(CHART, with_workloads(example(name)) if name else None, strict=True)
    assert report["errors"] == []
    assert [m for m in report["messages"] if m["severity"] >= WARNING] == []


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_daemon_loads_the_configuration_of_each_example(name: str, tmp_path: Path) -> None:
    config = written(render(with_workloads(example(name))), tmp_path)
    assert set(config.workloads) == set(with_workloads(example(name))["workloads"])
    assert config.daemon.listen == "0.0.0.0:8080"


def test_values_reach_the_daemon_unchanged(tmp_path: Path) -> None:
    """Helm reads numbers as floats: large and small ones, times and texts must not change in the ConfigMap."""
    workload = example("llama-chat")["workloads"]["llama-chat"]
    policies = {
        "small": {"kind": "metric", "quantity": "running", "target": 0.0000001},
        "large": {"kind": "metric", "quantity": "waiting", "target": 150000000},
    }
    engines = {**workload["sources"]["engines"], "match": {"model_name": "1e-07"}}
    changed = {**workload, "policies": policies, "sources": {"engines": engines}}
    other = yaml.safe_dump({**changed, "workload": "text", "pools": {"gpus": {"kind": "kubernetes", "name": "other"}}})
    config = written(render({"workloads": {"mapping": changed, "text": other}}), tmp_path)
    for name in ("mapping", "text"):
        spec: Any = config.workloads[WorkloadName(name)].spec
        assert {key: policy.target for key, policy in spec.policies.items()} == {"small": 1e-07, "large": 1.5e8}
        assert spec.sources["engines"].match == {"model_name": "1e-07"}


REFUSED: dict[str, tuple[dict[str, Any], str]] = {
    "no workload": (
        {"workloads": {}},
        "workloads: the daemon needs at least one: set workloads.NAME, daemon.kubernetes_workloads or",
    ),
    "two daemons": ({"replicas": 2}, "replicas: got 2, must be 0 or 1 without daemon.ha"),
    "two daemons with ha: null": ({"replicas": 2, "daemon": {"ha": None}}, "must be 0 or 1 without daemon.ha"),
    "one claim of two daemons": (
        {"replicas": 2, "daemon": {"ha": {}}, "persistence": {"enabled": True}},
        "persistence.enabled: must be false with replicas: 2",
    ),
    "other name": ({"workloads": {"a": {"workload": "b"}}}, 'workloads.a.workload: got "b", must be "a" or absent'),
    "reserved name": ({"workloads": {"daemon": {}}}, "invalid propertyName 'daemon'"),
    "two configurations": (
        {"existingConfigMap": "mine", "workloads": {"a": {}}},
        "workloads: must be empty with existingConfigMap",
    ),
    "no address": ({"daemon": {"listen": None}}, "daemon.listen: must be HOST:PORT"),
    "unknown key": ({"image": {"tagg": "1"}}, "additional properties 'tagg' not allowed"),
    "bad role": ({"identity": {"awsRoleArn": "forescale"}}, "/identity/awsRoleArn"),
    "identity of another account": (
        {"serviceAccount": {"create": False}, "identity": {"azureClientId": f"{0:08}-0000-0000-0000-{0:012}"}},
        "identity: needs serviceAccount.create",
    ),
    "metrics API without its server": (
        {"partners": {"apiService": {"enabled": True}}},
        "partners.apiService.enabled: needs daemon.partners.external_metrics",
    ),
    "both monitors": (
        {"serviceMonitor": {"enabled": True}, "podMonitor": {"enabled": True}},
        "podMonitor.enabled: must be false with serviceMonitor.enabled",
    ),
    "monitor without Service": (
        {"serviceMonitor": {"enabled": True}, "service": {"enabled": False}},
        "serviceMonitor.enabled: needs service.enabled",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_wrong_values_are_refused_with_the_rule(case: str) -> None:
    values, rule = REFUSED[case]
    with pytest.raises(helm().HelmError) as refused:
        render(with_workloads(values))
    assert rule in str(refused.value)


def test_schema_and_values_have_the_same_keys() -> None:
    """A value without a schema would be refused; a schema without a value is not documented."""
    schema = json.loads((CHART / "values.schema.json").read_text())
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    jsonschema.Draft7Validator.check_schema(schema)
    assert list(jsonschema.Draft7Validator(schema).iter_errors(values)) == []
    assert set(schema["properties"]) - {"global", "enabled"} == set(values)
    for key, value in values.items():
        of = schema["properties"][key]
        of = schema["definitions"][of["$ref"].rpartition("/")[2]] if "$ref" in of else of
        if of.get("additionalProperties") is False:
            assert set(of["properties"]) == set(value), key


def test_port_and_probes_follow_the_daemon_settings() -> None:
    tls = {"certificate": "/etc/tls/tls.crt", "key": "/etc/tls/tls.key"}
    values = {"daemon": {"listen": "[::]:9443", "server": {"tls": tls}}, "podMonitor": {"enabled": True}}
    objects = render(with_workloads(values))
    daemon = container(objects)
    assert daemon["ports"] == [{"name": "http", "containerPort": 9443}]
    assert {daemon[probe]["httpGet"]["scheme"] for probe in ("livenessProbe", "readinessProbe")} == {"HTTPS"}
    assert one(objects, "PodMonitor")["spec"]["podMetricsEndpoints"][0]["scheme"] == "https"


def test_ports_of_partners_follow_the_daemon_settings() -> None:
    assert container(render(example("llama-chat")))["ports"] == [{"name": "http", "containerPort": 8080}]
    values = {"daemon": {"partners": {"keda": {"listen": "[::]:7000"}}}, "networkPolicy": {"enabled": True}}
    objects = render(with_workloads(values), namespace="llm")
    assert {"name": "keda", "containerPort": 7000} in container(objects)["ports"]
    assert {"name": "keda", "port": 7000, "targetPort": "keda"} in one(objects, "Service")["spec"]["ports"]
    assert one(objects, "NetworkPolicy")["spec"]["ingress"][1]["ports"] == [{"port": "keda", "protocol": "TCP"}]
    assert not [made for made in objects if made["kind"] == "APIService"]


def test_daemons_reach_each_other_for_the_workloads_of_all() -> None:
    ha = {"peer_url": "http://{POD_IP}:8080"}
    values = {"daemon": {"ha": ha}, "networkPolicy": {"enabled": True, "from": [{"ipBlock": {"cidr": "10.0.0.0/8"}}]}}
    objects = render(with_workloads(values))
    pods = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    _, peers = one(objects, "NetworkPolicy")["spec"]["ingress"]
    (source,) = peers["from"]
    assert source["podSelector"]["matchLabels"].items() <= pods.items()
    assert peers["ports"] == [{"port": "http", "protocol": "TCP"}]
    without = render(with_workloads({**values, "daemon": {"ha": {}}}))
    assert len(one(without, "NetworkPolicy")["spec"]["ingress"]) == 1


def test_external_metrics_get_an_api_service_and_the_permission_to_read_the_front_proxy() -> None:
    tls = {"certificate": "/etc/tls/tls.crt", "key": "/etc/tls/tls.key"}
    values = {"daemon": {"partners": {"external_metrics": {"tls": tls}}}, "partners": {"apiService": {"enabled": True}}}
    objects = render(with_workloads(values))
    assert one(objects, "APIService")["spec"]["service"] == {"name": "forescale", "namespace": "default", "port": 6443}
    (binding,) = [plain(o) for o in objects if o["metadata"]["name"] == "forescale-front-proxy"]
    (shipped,) = manifests("kubernetes-front-proxy")
    assert {key: binding[key] for key in shipped if key != "metadata"} == {
        key: shipped[key] for key in shipped if key != "metadata"
    }


def test_image_has_the_chart_version_unless_a_tag_or_digest_is_set() -> None:
    digest = f"sha256:{'0' * 64}"
    images = [
        container(render(with_workloads({"image": {"repository": "ghcr.io/example/forescale", **image}})))["image"]
        for image in ({}, {"tag": "1.0"}, {"tag": "1.0", "digest": digest})
    ]
    tag = chart().metadata["appVersion"]
    assert images == [f"ghcr.io/example/forescale{suffix}" for suffix in (f":{tag}", ":1.0", f"@{digest}")]


@pytest.mark.parametrize(
    ("name", "annotation"),
    [
        ("eks", {"eks.amazonaws.com/role-arn": "arn:aws:iam::123456789012:role/forescale"}),
        ("gke", {"iam.gke.io/gcp-service-account": "forescale@my-project.iam.gserviceaccount.com"}),
        ("aks", {"azure.workload.identity/client-id": "00000000-0000-0000-0000-000000000000"}),
    ],
)
def test_cloud_identity_is_on_the_service_account(name: str, annotation: dict[str, str]) -> None:
    objects = render(example(name))
    assert one(objects, "ServiceAccount")["metadata"]["annotations"] == annotation
    labels = one(objects, "Deployment")["spec"]["template"]["metadata"]["labels"]
    assert labels.get("azure.workload.identity/use") == ("true" if name == "aks" else None)


def test_roles_are_granted_in_each_namespace_once() -> None:
    objects = render(with_workloads({"rbac": {"namespaces": ["a", "prod", "a"]}}), namespace="prod")
    for kind in ("Role", "RoleBinding"):
        assert sorted(o["metadata"]["namespace"] for o in objects if o["kind"] == kind) == ["a", "prod"]
    subjects = [s for o in objects if o["kind"] == "RoleBinding" for s in o["subjects"]]
    assert {s["namespace"] for s in subjects} == {"prod"}
    assert not [o for o in objects if o["kind"].startswith("Cluster")]


def test_journal_is_on_the_claim_that_is_created_or_exists() -> None:
    def journal(values: dict[str, Any]) -> tuple[str, int]:
        objects = render(with_workloads({"persistence": values}))
        volumes = one(objects, "Deployment")["spec"]["template"]["spec"]["volumes"]
        claim = next(v for v in volumes if v["name"] == "journal")["persistentVolumeClaim"]["claimName"]
        return claim, sum(o["kind"] == "PersistentVolumeClaim" for o in objects)

    assert journal({"enabled": True}) == ("forescale-journal", 1)
    assert journal({"existingClaim": "mine"}) == ("mine", 0)


def test_rules_and_dashboards_are_the_shipped_files() -> None:
    objects = render(with_workloads(example("monitored")))
    groups = [yaml.safe_load((DEPLOY / f"{f}.yaml").read_text())["groups"] for f in ("alerts", "recording-rules")]
    assert one(objects, "PrometheusRule")["spec"]["groups"] == [*groups[0], *groups[1]]
    shown = next(o for o in objects if o["metadata"]["name"] == "forescale-dashboards")
    shipped = {f"forescale-{path.name}": json.loads(path.read_text()) for path in DEPLOY.glob("grafana/*.json")}
    assert len(shipped) == 2
    assert {name: json.loads(text) for name, text in shown["data"].items()} == shipped


def test_package_has_contents_instead_of_links(tmp_path: Path) -> None:
    archive = helm().package(CHART, destination=tmp_path)
    with tarfile.open(archive) as packed:
        assert all(member.isfile() for member in packed.getmembers())
        packed.extractall(tmp_path, filter="data")
    for name in ("alerts", "recording-rules"):
        assert (tmp_path / f"forescale/files/{name}.yaml").read_text() == (DEPLOY / f"{name}.yaml").read_text()
    assert render(example("llama-chat"), Path(archive)) == render(example("llama-chat"))


def test_values_of_the_guide_render() -> None:
    guide = [yaml.safe_load(b.text) for b in blocks(ROOT / "docs/how-to/helm.md") if b.language == "yaml"]
    assert len(guide) > 4
    for values in guide:
        assert container(render(with_workloads(values)))


def test_sidecar_is_in_the_pod_of_a_parent_chart(tmp_path: Path) -> None:
    objects = render({}, gateway(tmp_path))
    pod = one(objects, "Deployment")["spec"]["template"]["spec"]
    daemon = container(objects)
    assert [c["name"] for c in pod["containers"]] == ["gateway", "forescale"]
    assert pod["serviceAccountName"] == one(objects, "ServiceAccount")["metadata"]["name"]
    assert {m["name"] for m in daemon["volumeMounts"]} == {v["name"] for v in pod["volumes"]}
    assert daemon["ports"][0]["name"] == "forescale-http"
    assert "readinessProbe" not in daemon
    assert daemon["securityContext"]["runAsNonRoot"]
    assert "fsGroup" not in daemon["securityContext"]
    assert not {o["kind"] for o in objects} & {"Service", "PodDisruptionBudget", "NetworkPolicy", "ServiceMonitor"}
    assert set(written(objects, tmp_path).workloads) == {"llama-chat"}


def test_notes_name_commands_with_the_release_and_its_namespace() -> None:
    texts = chart().render(dict(example("eks")), name="prod", namespace="llm")
    notes = texts["forescale/templates/NOTES.txt"]
    assert "kubectl exec -n llm deployment/prod-forescale -- forescale check /etc/forescale --live" in notes
    assert "emptyDir" not in notes
    assert (
        "emptyDir"
        in chart().render(dict(example("llama-chat")), name="a", namespace="b")["forescale/templates/NOTES.txt"]
    )


@pytest.mark.parametrize("name", EXAMPLE_NAMES)
def test_current_kubernetes_schemas_accept_every_object(name: str) -> None:
    version = kubernetes_validate.latest_version()
    objects = [o for o in render(with_workloads(example(name))) if "coreos.com" not in o["apiVersion"]]
    assert objects
    for made in objects:
        kubernetes_validate.validate(made, version, strict=True)
