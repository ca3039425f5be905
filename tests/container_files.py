"""The compose file and the Dockerfiles, read for tests."""

from pathlib import Path
from typing import Any

import yaml
from pydantic_settings import BaseSettings

from api.import_client import ImportSettings
from api.settings import ApiSettings
from common.settings import DatabaseSettings
from grpc_reader.settings import ClientSettings, ReaderSettings
from outbox_relay.settings import RelaySettings

ROOT = Path(__file__).parents[1]
TEXT = (ROOT / "docker-compose.yml").read_text()
COMPOSE: dict[str, Any] = yaml.safe_load(TEXT)
SERVICES: dict[str, Any] = COMPOSE["services"]
PACKAGES = {"api": "api", "relay": "outbox_relay", "reader": "grpc_reader"}
SERVERS = {"database", "broker", "cache"}
JOBS = set(SERVICES) - set(PACKAGES) - SERVERS
HEALTH_PORT = {"api": "API_PORT", "relay": "RELAY_HEALTH_PORT", "reader": "READER_HEALTH_PORT"}
READ_BY: dict[str, tuple[type[BaseSettings], ...]] = {
    "api": (ApiSettings, ImportSettings),
    "relay": (RelaySettings,),
    "reader": (ReaderSettings, ClientSettings),
    **dict.fromkeys(JOBS, (DatabaseSettings,)),
}
FOR_PYTHON = {"PATH", "PYTHONDONTWRITEBYTECODE", "PYTHONUNBUFFERED"}


def variables(settings: type[BaseSettings]) -> set[str]:
    """The environment variables that a settings class reads, those of its groups among them."""
    found = {"SECRETS_DIR"}
    for name, field in settings.model_fields.items():
        kind = field.annotation
        group = isinstance(kind, type) and issubclass(kind, BaseSettings)
        found |= variables(kind) if group else {name.upper()}  # type: ignore[arg-type]
    return found


def instructions(package: str) -> list[tuple[str, str]]:
    """The instructions of a Dockerfile, each on one line."""
    text = (ROOT / package / "Dockerfile").read_text()
    lines = "\n".join(line for line in text.splitlines() if not line.startswith("#")).replace("\\\n", "")
    return [
        (word, rest.strip()) for word, _, rest in (line.partition(" ") for line in lines.splitlines()) if word
    ]


def image(package: str, target: str | None = None) -> list[tuple[str, str]]:
    """The instructions that make an image, from its base on; those of other stages are left out."""
    stages: dict[str, list[tuple[str, str]]] = {}
    stage: list[tuple[str, str]] = []
    for word, rest in instructions(package):
        if word == "FROM":
            base, _, name = rest.partition(" AS ")
            stage = [*stages.get(base, []), (word, base)]
            stages[name] = stage
        else:
            stage.append((word, rest))
    return stages[target or ""]


def last(package: str, word: str) -> str:
    return [rest for found, rest in image(package) if found == word][-1]


def image_environment(package: str) -> dict[str, str]:
    words = " ".join(rest for word, rest in image(package) if word == "ENV").split()
    return dict(word.split("=", 1) for word in words)


def environment(service: str) -> dict[str, str]:
    inside = image_environment(PACKAGES[service]) if service in PACKAGES else {}
    return {**inside, **SERVICES[service].get("environment", {})}
