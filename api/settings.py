from datetime import timedelta
from ipaddress import ip_network
from pathlib import Path
from typing import Annotated, Self
from urllib.parse import urlsplit

from pydantic import AfterValidator, Field, NonNegativeInt, PositiveInt, model_validator

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


def _each(text: str) -> tuple[str, ...]:
    return tuple(item.strip() for item in text.split(",") if item.strip())


def _networks(text: str) -> str:
    for item in _each(text):
        try:
            found = ip_network(item)
        except ValueError:
            raise ValueError(
                "must be addresses or networks such as 10.0.0.0/8, with commas between"
            ) from None
        if found.prefixlen == 0:
            raise ValueError("must not be every address, or everybody could say where they come from")
    return text


def _origins(text: str) -> str:
    for item in _each(text):
        if item == "*":
            raise ValueError("must name the origins, for any page could let its visitors guess passwords")
        if not _is_origin(item):
            raise ValueError("must be origins such as https://shop.example, with commas between")
    return text


def _is_origin(text: str) -> bool:
    """Whether a browser could send it (RFC 6454, section 6.2): no path, no default port, lower case."""
    try:
        found = urlsplit(text)
        port = found.port
    except ValueError:
        return False
    default = {"http": 80, "https": 443}.get(found.scheme)
    host = f"[{found.hostname}]" if ":" in (found.hostname or "") else found.hostname
    made = f"{found.scheme}://{host}" + ("" if port is None else f":{port}")
    return default not in {None, port} and bool(host) and text == made


class KeySettings(Settings):
    """Where the private keys of the access tokens stand; a new one is published for the lead, then signs."""

    signing_keys_dir: Path
    signing_key_lead: NotNegative = timedelta(minutes=6)


class ApiSettings(KeySettings, DatabaseSettings, BrokerSettings, CacheSettings, ProcessSettings):
    """What `serve` needs to know.

    `body_max_bytes` bounds every body but that of the import, which is streamed. `if_match_required` refuses
    changes that do not say which version of the book they mean. `hsts_seconds` is for who serves over TLS
    alone. With a certificate the API itself serves TLS, and nothing else on its port.

    The rates are calls per second, 0 means any number. `requests_max` may be in work at once. A head has
    `head_max_bytes`, counted as HTTP/2 does (each name and value, and 32).
    """

    api_port: Port = 8000
    access_token_lifetime: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(days=1))] = timedelta(
        minutes=15
    )
    refresh_token_lifetime: Annotated[timedelta, Field(gt=timedelta(0))] = timedelta(days=30)
    body_max_bytes: PositiveInt = 64 * 1024
    if_match_required: bool = False
    hsts_seconds: NonNegativeInt = 0
    rate_limit_address: NonNegativeInt = 2000
    rate_limit_user: NonNegativeInt = 1000
    rate_limit_login: NonNegativeInt = 20
    requests_max: PositiveInt = 128
    connections_max: PositiveInt = 2500
    head_max_bytes: PositiveInt = 16 * 1024
    trusted_proxies: Annotated[str, AfterValidator(_networks)] = ""
    cors_allowed_origins: Annotated[str, AfterValidator(_origins)] = ""
    api_tls_certificate: Path | None = None
    api_tls_key: Path | None = None
    api_tls_client_ca: Path | None = None

    @property
    def proxies(self) -> list[str]:
        """Each of `trusted_proxies`."""
        return list(_each(self.trusted_proxies))

    @property
    def origins(self) -> tuple[str, ...]:
        """Each of `cors_allowed_origins`."""
        return _each(self.cors_allowed_origins)

    @property
    def api_tls(self) -> ServerTls:
        """How the API listens."""
        return ServerTls("API_TLS", self.api_tls_certificate, self.api_tls_key, self.api_tls_client_ca)

    @model_validator(mode="after")
    def _api_files(self) -> Self:
        self.api_tls.context()
        return self
