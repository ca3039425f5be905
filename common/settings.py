"""Value groups that the services' own settings are composed of. Nothing is read before a class is called."""

import os
from collections.abc import Collection
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, SecretStr, ValidationError
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from common.errors import StartError


def _sendable(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be ASCII letters, digits and signs on one line, as every token is")
    return token


# Whatever else would be refused by the libraries that send it, in words that are not for people.
AccessToken = Annotated[SecretStr, AfterValidator(_sendable)]


def _address(schemes: Collection[str], example: str) -> AfterValidator:
    """The URL has one of the schemes, a host and, if any, a port that is a number."""

    def check(url: SecretStr) -> SecretStr:
        sentence = f"must look like {example}"
        try:
            found = urlsplit(url.get_secret_value())
            known = found.scheme in schemes and bool(found.hostname) and found.port != 0
        except ValueError:  # its message may show a part of the password
            raise ValueError(sentence) from None
        if not known:
            raise ValueError(sentence)
        return url

    return AfterValidator(check)


BrokerUrl = Annotated[
    SecretStr, _address(("amqp", "amqps", "pyamqp"), "amqp://user:password@host:port/vhost")
]
CacheUrl = Annotated[SecretStr, _address(("redis", "rediss"), "redis://host:port/number")]
Port = Annotated[int, Field(ge=1, le=65535)]
FROM_ENVIRONMENT = SettingsConfigDict(frozen=True, extra="ignore", env_ignore_empty=True)


class Settings(BaseSettings):
    """What all settings are: from the environment or else, where SECRETS_DIR names a folder, from its files.

    There the file `database_url` holds the value of DATABASE_URL, and so on (docs/adr/0008).
    """

    model_config = FROM_ENVIRONMENT

    @classmethod
    def from_environment(cls) -> Self:
        """The settings; StartError, without any value in it, when a variable is missing or wrong."""
        try:
            return cls()
        except ValidationError as error:
            raise explain(error) from None

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,  # noqa: ARG003  its folder is fixed at import
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        """The sources, the strongest first."""
        files = SecretsSettingsSource(settings_cls, secrets_dir=os.environ.get("SECRETS_DIR") or None)
        return init_settings, env_settings, dotenv_settings, files


class DatabaseSettings(Settings):
    """`mysql://user:password@host:port/name`; the driver is the service's choice, not the user's."""

    database_url: SecretStr


class BrokerSettings(Settings):
    """`amqp://user:password@host:port/vhost`."""

    broker_url: BrokerUrl


class CacheSettings(Settings):
    """`redis://host:port/number`."""

    cache_url: CacheUrl


class ProcessSettings(Settings):
    """What every serving process has: the address it binds to and how much it logs."""

    bind_host: str = "127.0.0.1"
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"


def explain(error: ValidationError) -> StartError:
    """One sentence for settings that are missing or wrong; values are left out, for they may be secret."""
    faults = "; ".join(
        f"{str(fault['loc'][-1]).upper()}: {fault['msg'].removeprefix('Value error, ')}"
        for fault in error.errors()
    )
    return StartError(f"The environment is not complete or not right ({faults}). See .env.example.")
