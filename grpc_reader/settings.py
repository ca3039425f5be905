from pathlib import Path

from pydantic import AnyHttpUrl, SecretStr
from pydantic_settings import SettingsConfigDict

from common.settings import (
    AccessToken,
    BrokerSettings,
    CacheSettings,
    DatabaseSettings,
    Port,
    ProcessSettings,
    Settings,
)
from grpc_reader.limits import GrpcLimits

_DEMO_LOGIN = Path(".local/demo.env")


class ReaderSettings(DatabaseSettings, BrokerSettings, CacheSettings, ProcessSettings, GrpcLimits):
    """What `serve` needs to know; `jwks_url` is where the API publishes its public keys."""

    grpc_port: Port = 50051
    reader_health_port: Port = 8002
    jwks_url: AnyHttpUrl = AnyHttpUrl("http://127.0.0.1:8000/.well-known/jwks.json")
    grpc_reflection: bool = True


class DeadLetterSettings(BrokerSettings):
    """What the commands for dead letters need to know."""


class ClientSettings(Settings):
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

    @property
    def address(self) -> str:
        """`host:port` of the gRPC server."""
        return self.grpc_address or f"127.0.0.1:{self.grpc_port}"
