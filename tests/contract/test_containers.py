"""What can be known of `docker compose up` without Docker: addresses, secrets, the order of the start."""

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from sqlalchemy import make_url

from containers.make_secrets import make_secrets
from tests.container_files import (
    COMPOSE,
    FOR_PYTHON,
    HEALTH_PORT,
    JOBS,
    PACKAGES,
    READ_BY,
    SERVERS,
    SERVICES,
    TEXT,
    environment,
    image_environment,
    last,
    variables,
)

PUBLISHED = {
    "api": {"127.0.0.1:${API_PORT:-8000}:8000"},
    "relay": {"127.0.0.1:${RELAY_HEALTH_PORT:-8001}:8001"},
    "reader": {"127.0.0.1:${READER_HEALTH_PORT:-8002}:8002", "127.0.0.1:${GRPC_PORT:-50051}:50051"},
}
GRACE_SECONDS = {"api": 8, "relay": 5, "reader": 8}


def scalars(node: object) -> Iterator[str]:
    if isinstance(node, dict):
        for key, value in node.items():
            yield str(key)
            yield from scalars(value)
    elif isinstance(node, list):
        for value in node:
            yield from scalars(value)
    else:
        yield str(node)


def test_published_ports_are_the_contracts_and_on_loopback_only() -> None:
    found = {name: set(service["ports"]) for name, service in SERVICES.items() if "ports" in service}
    assert found == PUBLISHED


@pytest.mark.parametrize("service", PACKAGES)
def test_ports_inside_are_those_that_the_service_listens_on(service: str) -> None:
    inside = {port.rpartition(":")[2] for port in PUBLISHED[service]}
    defaults = READ_BY[service][0].model_fields
    assert inside == {str(defaults[name].default) for name in defaults if name.endswith("_port")}
    assert inside == set(last(PACKAGES[service], "EXPOSE").split())
    assert environment(service)["BIND_HOST"] == "0.0.0.0"  # noqa: S104  a container's own


def test_compose_file_has_no_secret() -> None:
    for text in scalars(COMPOSE):
        assert not re.search(r"://[^/\s]*@", text), "a URL with a login"
        assert not re.search(r"(?i)(pass(word)?|secret|token|key)\s*[=:]\s*\S", text)
        assert not re.search(r"[0-9a-f]{16}", text)
    for service in SERVICES.values():
        for name, value in service.get("environment", {}).items():
            if re.search("PASS|SECRET|TOKEN|COOKIE", name):
                assert name.endswith(("_FILE", "_DIR"))
                assert value.startswith("/run/bookstore")


def test_compose_file_has_defaults_for_ports_and_pip_only() -> None:
    assert set(re.findall(r"\$\{(\w+)", TEXT)) == {*HEALTH_PORT.values(), "GRPC_PORT", "PIP_CONFIG_FILE"}


@pytest.mark.parametrize("service", [*PACKAGES, *sorted(JOBS)])
def test_every_variable_is_one_that_the_services_settings_read(service: str) -> None:
    known = set().union(*map(variables, READ_BY[service]))
    assert set(environment(service)) - FOR_PYTHON <= known


@pytest.mark.parametrize("service", PACKAGES)
def test_made_secrets_and_the_environment_are_all_that_a_service_needs(
    service: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for folder in ("broker", "cache", "database", "services"):
        (tmp_path / folder).mkdir()
    make_secrets(tmp_path)
    for name in set().union(*map(variables, READ_BY[service])):
        monkeypatch.delenv(name, raising=False)
    for name, value in environment(service).items():
        if name not in FOR_PYTHON:
            monkeypatch.setenv(name, value.replace("/run/bookstore", str(tmp_path / "services")))
    for settings in READ_BY[service]:
        settings()
    urls = [(tmp_path / "services" / f"{name}_url").read_text() for name in ("database", "broker", "cache")]
    assert {make_url(url).host for url in urls} == SERVERS
    assert {file.name for file in (tmp_path / "services").iterdir()} == {
        *(f"{name}_url" for name in SERVERS),
        *("demo_username", "demo_password", "demo.env"),
    }


def test_each_secret_is_mounted_read_only_and_only_where_it_is_used() -> None:
    mounted: dict[str, set[str]] = {}
    for name, service in SERVICES.items():
        for volume in service.get("volumes", []):
            source, target, *mode = volume.split(":")
            if source.endswith("_secrets") and name != "secrets":
                assert (target, mode) == ("/run/bookstore", ["ro"]), (name, volume)
                mounted.setdefault(source, set()).add(name)
    assert mounted == {
        **{f"{server}_secrets": {server} for server in SERVERS},
        "service_secrets": {*PACKAGES, "migrate", "demo_user"},
    }


def test_all_data_is_in_named_volumes() -> None:
    used = {volume.split(":")[0] for service in SERVICES.values() for volume in service.get("volumes", [])}
    assert used == set(COMPOSE["volumes"])
    assert "database_data:/var/lib/mysql" in SERVICES["database"]["volumes"]
    assert "broker_data:/var/lib/rabbitmq" in SERVICES["broker"]["volumes"]
    assert f"signing_keys:{image_environment('api')['SIGNING_KEYS_DIR']}" in SERVICES["api"]["volumes"]


def test_nobody_starts_before_what_it_needs() -> None:
    healthy, ended = "service_healthy", "service_completed_successfully"
    needs = {
        name: {need: how["condition"] for need, how in service.get("depends_on", {}).items()}
        for name, service in SERVICES.items()
    }
    for server in SERVERS:
        assert needs[server] == {"secrets": ended}
        assert "healthcheck" in SERVICES[server]
    assert needs["migrate"] == {"database": healthy}
    for service in PACKAGES:
        assert needs[service].items() >= {**dict.fromkeys(SERVERS, healthy), "migrate": ended}.items()
    assert needs["api"]["demo_user"] == ended


def test_each_job_has_somebody_who_waits_for_its_success() -> None:
    """Otherwise `up --wait` takes a job that has ended for a service that died."""
    waited_for = {
        need
        for service in SERVICES.values()
        for need, how in service.get("depends_on", {}).items()
        if how["condition"] == "service_completed_successfully"
    }
    assert waited_for == JOBS == {name for name, service in SERVICES.items() if service["restart"] == "no"}


@pytest.mark.parametrize("service", PACKAGES)
def test_docker_waits_longer_for_a_service_to_stop_than_it_may_take(service: str) -> None:
    assert int(SERVICES[service]["stop_grace_period"].removesuffix("s")) > GRACE_SECONDS[service]


@pytest.mark.parametrize("service", [*PACKAGES, *sorted(JOBS)])
def test_our_containers_have_no_rights_and_cannot_write_to_their_image(service: str) -> None:
    found = SERVICES[service]
    assert (found["cap_drop"], found["security_opt"], found["read_only"], found["init"]) == (
        ["ALL"],
        ["no-new-privileges:true"],
        True,
        True,
    )
