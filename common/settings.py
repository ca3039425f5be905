"""Value groups that the services' own settings are composed of. Nothing is read before a class is called."""

import os
from collections.abc import Collection
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import parse_qsl, urlsplit

from pydantic import AfterValidator, AnyHttpUrl, Field, SecretStr, ValidationError, model_validator
from pydantic_settings import (
    BaseSettings,
    PydanticBaseSettingsSource,
    SecretsSettingsSource,
    SettingsConfigDict,
)

from common.errors import StartError
from common.tls import ClientTls


def _sendable(token: SecretStr) -> SecretStr:
    text = token.get_secret_value()
    if not text.isascii() or not text.isprintable():
        raise ValueError("must be ASCII letters, digits and signs on one line, as every token is")
    return token


# Whatever else would be refused by the libraries that send it, in words that are not for people.
AccessToken = Annotated[SecretStr, AfterValidator(_sendable)]


# There, libraries would let it switch verification off.
NO_TLS_IN_URL = "must not have ssl options in it; set the variables with _TLS_ instead"


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
        if any(name.startswith("ssl") for name, _ in parse_qsl(found.query, keep_blank_values=True)):
            raise ValueError(NO_TLS_IN_URL)
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
    """`mysql://user:password@host:port/name`; the driver is the service's choice, not the user's.

    Any of the others means TLS.
    """

    database_url: SecretStr
    database_tls_ca: Path | None = None
    database_tls_certificate: Path | None = None
    database_tls_key: Path | None = None

    @property
    def database_tls(self) -> ClientTls:
        """How its connections are made."""
        return ClientTls(
            "DATABASE_TLS", self.database_tls_ca, self.database_tls_certificate, self.database_tls_key
        )

    @model_validator(mode="after")
    def _database_files(self) -> Self:
        self.database_tls.require("DATABASE_URL", encrypted=True, scheme="mysql")
        return self


class BrokerSettings(Settings):
    """`amqp://user:password@host:port/vhost`, or amqps."""

    broker_url: BrokerUrl
    broker_tls_ca: Path | None = None
    broker_tls_certificate: Path | None = None
    broker_tls_key: Path | None = None

    @property
    def broker_tls(self) -> ClientTls:
        """How connections to amqps are made."""
        return ClientTls("BROKER_TLS", self.broker_tls_ca, self.broker_tls_certificate, self.broker_tls_key)

    @model_validator(mode="after")
    def _broker_files(self) -> Self:
        encrypted = self.broker_url.get_secret_value().startswith("amqps:")
        self.broker_tls.require("BROKER_URL", encrypted=encrypted, scheme="amqps")
        return self


class CacheTlsSettings(Settings):
    """For `rediss://`."""

    cache_tls_ca: Path | None = None
    cache_tls_certificate: Path | None = None
    cache_tls_key: Path | None = None

    @property
    def cache_tls(self) -> ClientTls:
        """How connections to rediss are made."""
        return ClientTls("CACHE_TLS", self.cache_tls_ca, self.cache_tls_certificate, self.cache_tls_key)

    @model_validator(mode="after")
    def _cache_files(self) -> Self:
        url: SecretStr | None = getattr(self, "cache_url", None)
        encrypted = url is None or url.get_secret_value().startswith("rediss:")
        self.cache_tls.require("CACHE_URL", encrypted=encrypted, scheme="rediss")
        return self


class CacheSettings(CacheTlsSettings):
    """`redis://host:port/number`, or rediss."""

    cache_url: CacheUrl


class ApiClientSettings(Settings):
    """For whoever calls the API by an https address."""

    api_client_tls_ca: Path | None = None
    api_client_tls_certificate: Path | None = None
    api_client_tls_key: Path | None = None

    @property
    def api_client_tls(self) -> ClientTls:
        """How connections to https are made."""
        return ClientTls(
            "API_CLIENT_TLS",
            self.api_client_tls_ca,
            self.api_client_tls_certificate,
            self.api_client_tls_key,
        )

    @model_validator(mode="after")
    def _api_client_files(self) -> Self:
        for name in ("jwks_url", "api_url"):
            url: AnyHttpUrl | None = getattr(self, name, None)
            if url is not None:
                if url.username or url.password:
                    # It would be told to whoever reads the log, and to nobody who asks for it.
                    raise StartError(f"{name.upper()} must have no user name and no password in it.")
                self.api_client_tls.require(name.upper(), encrypted=url.scheme == "https", scheme="https")
        return self


class ProcessSettings(Settings):
    """What every serving process has: the address it binds to and how much it logs."""

    bind_host: str = "127.0.0.1"
    log_level: Annotated[str, Field(pattern="^(DEBUG|INFO|WARNING|ERROR)$")] = "INFO"


# By the types of pydantic's errors.
_WORDS = {"time_delta_parsing": "must be a duration of ISO 8601, such as PT6M for six minutes"}


def explain(error: ValidationError) -> StartError:
    """One sentence for settings that are missing or wrong; values are left out, for they may be secret."""
    told = [(fault["loc"][-1], _WORDS.get(fault["type"], fault["msg"])) for fault in error.errors()]
    faults = "; ".join(f"{str(name).upper()}: {words.removeprefix('Value error, ')}" for name, words in told)
    return StartError(f"The environment is not complete or not right ({faults}). See .env.example.")
