"""The Kubernetes manifests: valid by Kubernetes' own schema, and as safe as they say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml
from pydantic import ValidationError
from starlette.testclient import TestClient

from latency_service.agent.testing import bearer
from latency_service.app import create_app
from latency_service.db.migrate import upgrade
from latency_service.settings import Settings
from tests.support.commands import check_command
from tests.support.settings import API_TOKEN
from tests.support.units import size_bytes

FOLDER = Path(__file__).parents[3] / "deploy" / "kubernetes"
KUSTOMIZATION: dict[str, Any] = yaml.safe_load((FOLDER / "kustomization.yaml").read_text())
MANIFESTS: list[dict[str, Any]] = [
    manifest
    for name in KUSTOMIZATION["resources"]
    for manifest in yaml.safe_load_all((FOLDER / name).read_text())
]
PODS = {
    manifest["metadata"]["name"]: manifest["spec"]["template"]["spec"]
    for manifest in MANIFESTS
    if manifest["kind"] in ("Deployment", "Job")
}
CONTAINERS = [
    pytest.param(pod, container, id=f"{name}-{container['name']}")
    for name, pod in PODS.items()
    for container in [*pod.get("initContainers", []), *pod["containers"]]
]


def one(kind: str) -> dict[str, Any]:
    [found] = [manifest for manifest in MANIFESTS if manifest["kind"] == kind]
    return found


@pytest.mark.parametrize(
    "manifest", MANIFESTS, ids=lambda found: f"{found['kind']}-{found['metadata']['name']}"
)
def test_the_schema_takes_it(manifest: dict[str, Any]) -> None:
    kubernetes_validate.validate(manifest, kubernetes_validate.latest_version(), strict=True)


def test_an_unknown_field_would_be_noticed() -> None:
    wrong = {**one("Service"), "spec": {**one("Service")["spec"], "replicas": 2}}
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(wrong, kubernetes_validate.latest_version(), strict=True)


def test_every_file_is_applied() -> None:
    files = {path.name for path in FOLDER.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(KUSTOMIZATION["resources"]) == files
    named = {image["name"] for image in KUSTOMIZATION["images"]}
    used = {container.values[1]["image"] for container in CONTAINERS}  # type: ignore[index]
    assert used == named


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_containers_run_without_root_and_write_nowhere_else(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    allowed = container["securityContext"]
    assert allowed["readOnlyRootFilesystem"] is True
    assert allowed["allowPrivilegeEscalation"] is False
    assert allowed["capabilities"] == {"drop": ["ALL"]}
    assert {mount["mountPath"] for mount in container["volumeMounts"]} == {"/data", "/tmp"}
    assert {volume["name"] for volume in pod["volumes"]} == {"data", "tmp"}
    # a quota on processor time would halt trainings and requests; memory is limited
    assert "cpu" not in container["resources"]["limits"]


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_commands_exist(pod: dict[str, Any], container: dict[str, Any]) -> None:
    if "args" in container:
        check_command(container["args"])
    else:
        assert container["command"][:2] == ["sh", "-c"]
        assert "latency-service db current" in container["command"][2]
        check_command(["db", "current"])


@pytest.mark.parametrize(("pod", "container"), CONTAINERS)
def test_secrets_are_referred_to_and_variables_are_settings(
    pod: dict[str, Any], container: dict[str, Any]
) -> None:
    known = {f"LATENCY_SERVICE_{name.upper()}" for name in Settings.model_fields}
    assert container["env"]
    for variable in container["env"]:
        assert variable["name"] in known
        if any(word in variable["name"] for word in ("TOKEN", "PASSWORD", "DATABASE_URL")):
            assert variable["valueFrom"]["secretKeyRef"]["name"] == "latency-service"
    assert not [manifest for manifest in MANIFESTS if manifest["kind"] == "Secret"]


def test_probes_ask_for_paths_that_exist(tmp_path: Path) -> None:
    served = set(create_app(Settings(data_dir=tmp_path)).openapi()["paths"])
    [service] = PODS["latency-service"]["containers"]
    paths = {name: service[name]["httpGet"]["path"] for name in service if name.endswith("Probe")}
    assert paths == {
        "livenessProbe": "/healthz",
        "readinessProbe": "/readyz",
        "startupProbe": "/healthz",
    }
    assert set(paths.values()) <= served


def test_the_ingress_holds_long_polls_and_takes_the_largest_file() -> None:
    prefix = "nginx.ingress.kubernetes.io/proxy-"
    notes = one("Ingress")["metadata"]["annotations"]
    settings = Settings()
    assert int(notes[f"{prefix}read-timeout"]) > settings.max_wait_seconds
    assert size_bytes(notes[f"{prefix}body-size"]) > settings.max_model_bytes
    assert notes[f"{prefix}buffering"] == "off"
    # otherwise the controller stores uploads without a token
    assert notes[f"{prefix}request-buffering"] == "off"
    assert one("Ingress")["spec"]["tls"][0]["hosts"] == [one("Ingress")["spec"]["rules"][0]["host"]]


def test_only_the_ingress_controller_and_prometheus_reach_the_replicas() -> None:
    policy = one("NetworkPolicy")["spec"]
    assert policy["policyTypes"] == ["Ingress"]
    [rule] = policy["ingress"]
    allowed = {
        peer["namespaceSelector"]["matchLabels"]["kubernetes.io/metadata.name"]: peer["podSelector"]
        for peer in rule["from"]
    }
    # without labels a selector chooses every pod
    assert allowed.keys() == {"ingress-nginx", "monitoring"}
    assert all(pods["matchLabels"] for pods in allowed.values())
    [port] = PODS["latency-service"]["containers"][0]["ports"]
    assert rule["ports"] == [{"port": port["name"]}]


def test_replicas_do_not_start_before_the_proxies_are_named() -> None:
    [service] = PODS["latency-service"]["containers"]
    [value] = [
        variable["value"]
        for variable in service["env"]
        if variable["name"] == "LATENCY_SERVICE_TRUSTED_PROXIES"
    ]
    with pytest.raises(ValidationError, match=f"LATENCY_SERVICE_TRUSTED_PROXIES: '{value}'"):
        Settings(trusted_proxies=value)


def test_selectors_choose_the_pods() -> None:
    labels = one("Service")["spec"]["selector"]
    assert one("NetworkPolicy")["spec"]["podSelector"]["matchLabels"] == labels
    assert one("PodDisruptionBudget")["spec"]["selector"]["matchLabels"] == labels
    chosen = [
        manifest["metadata"]["name"]
        for manifest in MANIFESTS
        if labels.items()
        <= manifest["spec"].get("template", {}).get("metadata", {}).get("labels", {}).items()
    ]
    assert chosen == ["latency-service"]
    backend = one("Ingress")["spec"]["rules"][0]["http"]["paths"][0]["backend"]["service"]
    [port] = one("Service")["spec"]["ports"]
    assert (backend["name"], backend["port"]["name"]) == ("latency-service", port["name"])


def test_prometheus_finds_the_pods_and_sends_a_token(tmp_path: Path) -> None:
    [job] = yaml.safe_load((FOLDER.parent / "prometheus.yml").read_text())["scrape_configs"]
    [deployment] = [
        manifest
        for manifest in MANIFESTS
        if manifest["kind"] == "Deployment" and manifest["metadata"]["name"] == "latency-service"
    ]
    pod = deployment["spec"]["template"]
    [port] = pod["spec"]["containers"][0]["ports"]
    keep = next(rule for rule in job["relabel_configs"] if rule.get("action") == "keep")
    assert keep["source_labels"] == [
        "__meta_kubernetes_pod_label_app_kubernetes_io_name",
        "__meta_kubernetes_pod_container_port_name",
    ]
    assert keep["regex"] == f"{pod['metadata']['labels']['app.kubernetes.io/name']};{port['name']}"
    [discovery] = job["kubernetes_sd_configs"]
    assert discovery["namespaces"]["names"] == [KUSTOMIZATION["namespace"]]
    settings = Settings(data_dir=tmp_path, api_token=API_TOKEN)
    upgrade(settings)
    with TestClient(create_app(settings)) as client:
        assert client.get(job["metrics_path"]).status_code == 401
        assert client.get(job["metrics_path"], headers=bearer(API_TOKEN)).status_code == 200
    assert job["authorization"]["credentials_file"]


def test_no_annotation_invites_scrapers_that_send_no_token() -> None:
    pods = [found["spec"]["template"] for found in MANIFESTS if "template" in found["spec"]]
    notes = {name for pod in pods for name in pod["metadata"].get("annotations", {})}
    assert not [name for name in notes if name.startswith("prometheus.io/")]


def test_a_replica_has_memory_for_all_uploads_that_it_takes_at_once() -> None:
    """A judging process gets four bytes for each of its file, and two judge at a time."""
    settings = Settings()
    [container] = PODS["latency-service"]["containers"]
    judging = 2 * settings.inspection_bytes + 4 * settings.upload_memory_bytes
    held = settings.upload_memory_bytes + settings.max_model_bytes
    usual = size_bytes(container["resources"]["requests"]["memory"])
    assert size_bytes(container["resources"]["limits"]["memory"]) > judging + held + usual
