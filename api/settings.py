from datetime import timedelta
from pathlib import Path
from typing import Annotated, Self

from pydantic import Field, NonNegativeInt, PositiveInt, model_validator

from common.settings import (
    BrokerSettings,
    CacheSettings,
    DatabaseSettings,
    Port,
    ProcessSettings,
    Settings,
)
from common.tls import ServerTls

NotNegative = Annotated[timedelta, Field(ge=timedelta(0))]


class KeySettings(Settings):
    """Where the private keys of the access tokens stand; a new one is published for the lead, then signs."""

    signing_keys_dir: Path
    signing_key_lead: NotNegative = timedelta(minutes=6)


class ApiSettings(KeySettings, DatabaseSettings, BrokerSettings, CacheSettings, ProcessSettings):
    """What `serve` needs to know.

    `body_max_bytes` bounds every body but that of the import, which is streamed. `if_match_required` refuses
    changes that do not say which version of the book they mean. `hsts_seconds` is for who serves over TLS
    alone. With a certificate the API itself serves TLS, and nothing else on its port.
    """

    api_port: Port = 8000
    access_token_lifetime: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=1))] = timedelta(
        minutes=15
    )
    refresh_token_lifetime: timedelta = timedelta(days=30)
    body_max_bytes: PositiveInt = 64 * 1024
    if_match_required: bool = False
    hsts_seconds: NonNegativeInt = 0
    api_tls_certificate: Path | None = None
    api_tls_key: Path | None = None
    api_tls_client_ca: Path | None = None

    @property
    def api_tls(self) -> ServerTls:
        """How the API listens."""
        return ServerTls("API_TLS", self.api_tls_certificate, self.api_tls_key, self.api_tls_client_ca)

    @model_validator(mode="after")
    def _api_files(self) -> Self:
        self.api_tls.context()
        return self
