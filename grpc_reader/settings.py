from pathlib import Path
from typing import Self

from pydantic import AnyHttpUrl, SecretStr, model_validator
from pydantic_settings import SettingsConfigDict

from common.settings import (
    AccessToken,
    ApiClientSettings,
    BrokerSettings,
    CacheSettings,
    DatabaseSettings,
    Port,
    ProcessSettings,
)
from common.tls import ClientTls, ServerTls
from grpc_reader.limits import GrpcLimits

_DEMO_LOGIN = Path(".local/demo.env")


class ReaderSettings(
    DatabaseSettings, BrokerSettings, CacheSettings, ApiClientSettings, ProcessSettings, GrpcLimits
):
    """What `serve` needs to know; `jwks_url` is where the API publishes its public keys."""

    grpc_port: Port = 50051
    reader_health_port: Port = 8002
    jwks_url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8000/.well-known/jwks.json")
    grpc_reflection: bool = True
    grpc_tls_certificate: Path | None = None
    grpc_tls_key: Path | None = None
    grpc_tls_client_ca: Path | None = None

    @property
    def grpc_tls(self) -> ServerTls:
        """How gRPC listens."""
        return ServerTls("GRPC_TLS", self.grpc_tls_certificate, self.grpc_tls_key, self.grpc_tls_client_ca)

    @model_validator(mode="after")
    def _grpc_files(self) -> Self:
        self.grpc_tls.context()
        return self


class DeadLetterSettings(BrokerSettings):
    """What the commands for dead letters need to know."""


class ClientSettings(ApiClientSettings):
    """What the client commands need to know: where to log in and as whom, or a token, and where gRPC is.

    The login that `make up` has written down is used when the environment names none.
    """

    model_config = SettingsConfigDict(
        frozen=True, extra="ignore", env_ignore_empty=True, env_file=_DEMO_LOGIN, env_file_encoding="utf-8"
    )
    api_url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8000")
    demo_username: str | None = None
    demo_password: SecretStr | None = None
    bookstore_token: AccessToken | None = None
    grpc_port: Port = 50051
    grpc_address: str | None = None
    grpc_client_tls_ca: Path | None = None
    grpc_client_tls_certificate: Path | None = None
    grpc_client_tls_key: Path | None = None

    @property
    def grpc_client_tls(self) -> ClientTls:
        """How connections to gRPC are made: any of the three means TLS."""
        return ClientTls(
            "GRPC_CLIENT_TLS",
            self.grpc_client_tls_ca,
            self.grpc_client_tls_certificate,
            self.grpc_client_tls_key,
        )

    @model_validator(mode="after")
    def _grpc_client_files(self) -> Self:
        self.grpc_client_tls.require("GRPC_ADDRESS", encrypted=True, scheme="https")
        return self

    @property
    def address(self) -> str:
        """`host:port` of the gRPC server."""
        return self.grpc_address or f"127.0.0.1:{self.grpc_port}"
