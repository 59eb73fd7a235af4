"""The compose file and the Dockerfile name commands, options, paths and packages that exist."""

from __future__ import annotations

import re
import tomllib
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
import yaml

from latency_service.app import create_app
from latency_service.settings import Settings
from tests.support.commands import check_command

ROOT = Path(__file__).parents[3]
COMPOSE: dict[str, Any] = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
DOCKERFILE = (ROOT / "Dockerfile").read_text()
SERVICES: dict[str, dict[str, Any]] = COMPOSE["services"]
DATABASE_USERS = ("postgres", "migrate", "trainer")
OURS = {name: service for name, service in SERVICES.items() if "build" in service}


@pytest.mark.parametrize("name", OURS)
def test_commands_exist_with_their_options(name: str) -> None:
    check_command(SERVICES[name]["command"])


@pytest.mark.parametrize(
    "command", re.findall(r"^\s*(?:HEALTHCHECK.*)?CMD (\[.*\])$", DOCKERFILE, re.MULTILINE)
)
def test_commands_of_the_images_exist(command: str, served_paths: set[str]) -> None:
    words: list[str] = yaml.safe_load(command)
    if words[0] == "python":
        assert health_paths(words)[0] in served_paths
    else:
        check_command(words[1:] if words[0] == "latency-service" else words)


def test_health_checks_ask_for_paths_that_exist(served_paths: set[str]) -> None:
    asked = {
        name: health_paths(service["healthcheck"].get("test", []))
        for name, service in SERVICES.items()
        if "healthcheck" in service
    }
    assert asked["service"] == ["/readyz"]
    assert {path for paths in asked.values() for path in paths} <= served_paths
    check_command(SERVICES["trainer"]["healthcheck"]["test"][2:])


def test_everything_waits_for_what_it_needs() -> None:
    needs = {
        name: {other: wait["condition"] for other, wait in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    assert needs["migrate"] == {"postgres": "service_healthy"}
    assert needs["service"] == needs["trainer"] == {"migrate": "service_completed_successfully"}
    assert needs["proxy"] == {"service": "service_healthy"}
    assert needs["enrol"] == {"proxy": "service_healthy"}
    assert needs["agent"] == {"enrol": "service_completed_successfully"}


def test_replicas_are_reached_by_one_address_only() -> None:
    service, proxy = SERVICES["service"], SERVICES["proxy"]
    assert service["deploy"]["replicas"] == 2
    published = {name: one["ports"] for name, one in SERVICES.items() if "ports" in one}
    assert published == {"proxy": ["127.0.0.1:8760:8080"]}
    [mounted] = proxy["volumes"]
    source, _, _ = mounted.partition(":")
    assert (ROOT / source).is_file()
    for name in ("enrol", "agent"):
        assert "http://proxy:8080" in SERVICES[name]["command"]


def networks_of(name: str) -> dict[str, Any]:
    """What a service says about each of its networks."""
    named = SERVICES[name].get("networks", ["default"])
    return named if isinstance(named, dict) else dict.fromkeys(named)


def test_replicas_believe_the_proxy_only() -> None:
    trusted = ip_address(SERVICES["service"]["environment"]["LATENCY_SERVICE_TRUSTED_PROXIES"])
    assert str(trusted) == networks_of("proxy")["replicas"]["ipv4_address"]
    [config] = COMPOSE["networks"]["replicas"]["ipam"]["config"]
    assert trusted in ip_network(config["subnet"])
    # nobody else gets that address, also when the proxy is not running
    assert ip_network(config["ip_range"]).subnet_of(ip_network(config["subnet"]))
    assert trusted not in ip_network(config["ip_range"])
    assert str(trusted) != config["gateway"]
    assert {name for name in SERVICES if "replicas" in networks_of(name)} == {"service", "proxy"}


def test_the_proxy_asks_replicas_from_that_address_and_nobody_else_reaches_them() -> None:
    """Where two networks were shared, the name of the replicas would lead to either."""
    shared = {
        other: networks_of(other).keys() & networks_of("service").keys()
        for other in SERVICES
        if other != "service"
    }
    assert shared.pop("proxy") == {"replicas"}
    assert {name for name, networks in shared.items() if networks} == set(DATABASE_USERS)
    assert networks_of("enrol").keys() == networks_of("agent").keys() == {"default"}
    assert "default" in networks_of("proxy")


def test_only_what_works_on_the_database_reaches_it() -> None:
    reach = {name for name in SERVICES if "database" in networks_of(name)}
    assert reach == {*DATABASE_USERS, "service"}
    assert all(networks_of(name).keys() <= COMPOSE["networks"].keys() for name in SERVICES)


def test_what_is_reached_from_outside_runs_with_as_little_as_possible() -> None:
    for name in ("service", "proxy"):
        assert SERVICES[name]["read_only"] is True
        assert SERVICES[name]["cap_drop"] == ["ALL"]
        assert SERVICES[name]["security_opt"] == ["no-new-privileges:true"]


def test_everything_that_stays_is_watched_and_started_again() -> None:
    stays = {name for name in SERVICES if name not in ("migrate", "enrol")}
    assert {name for name in stays if SERVICES[name].get("restart") == "unless-stopped"} == stays
    # the agent's health is whether the service hears of it: a check beside it disturbs it
    assert {name for name in stays if "healthcheck" in SERVICES[name]} == stays - {"agent"}


def test_variables_are_settings() -> None:
    known = {f"LATENCY_SERVICE_{name.upper()}" for name in Settings.model_fields}
    known |= {"LATENCY_SERVICE_TOKEN", "LATENCY_SERVICE_STATE_DIR"}
    used = {name for service in OURS.values() for name in service.get("environment", {})}
    used |= set(re.findall(r"LATENCY_SERVICE_\w+(?==)", DOCKERFILE))
    assert used
    assert used <= known


def test_no_secret_is_written_down_and_none_reaches_the_agent() -> None:
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if any(word in name for word in ("TOKEN", "PASSWORD", "DATABASE_URL")):
                assert "${" in value
    assert "environment" not in SERVICES["agent"]


def test_images_are_built_by_targets_that_exist_and_end_without_root() -> None:
    stages = dict(re.findall(r"^FROM (\S+) AS (\S+)$", DOCKERFILE, re.MULTILINE)).values()
    targets = {service["build"]["target"] for service in OURS.values()}
    bodies = dict(
        re.findall(r"^FROM \S+ AS (\S+)\n(.*?)(?=^FROM|\Z)", DOCKERFILE, re.MULTILINE | re.DOTALL)
    )
    assert targets == {"agent", "service", "trainer"}
    assert targets <= set(bodies), stages
    assert {
        re.findall(r"^USER (\S+)$", bodies[target], re.MULTILINE)[-1] for target in targets
    } == {"latency"}


def test_the_services_image_leaves_out_what_only_training_imports() -> None:
    extra = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"][
        "optional-dependencies"
    ]["service"]
    (left_out,) = re.findall(r"startswith\(\((.*?)\)\)", DOCKERFILE)
    names = tuple(re.findall(r"'([^']+)'", left_out))
    assert [entry for entry in extra if entry.startswith(names)] == [
        "scikit-learn>=1.5",
        "torch>=2.6",
    ]


def health_paths(test: list[str]) -> list[str]:
    return [path for word in test for path in re.findall(r"http://127\.0\.0\.1:8760(/\w+)", word)]


@pytest.fixture
def served_paths(tmp_path: Path) -> set[str]:
    return set(create_app(Settings(data_dir=tmp_path)).openapi()["paths"])
