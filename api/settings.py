from datetime import timedelta
from pathlib import Path

from pydantic import NonNegativeInt, PositiveInt

from common.settings import (
    BrokerSettings,
    CacheSettings,
    DatabaseSettings,
    Port,
    ProcessSettings,
)


class ApiSettings(DatabaseSettings, BrokerSettings, CacheSettings, ProcessSettings):
    """What `serve` needs to know. The private keys of the access tokens stand in `signing_keys_dir`.

    `body_max_bytes` bounds every body but that of the import, which is streamed. `if_match_required` refuses
    changes that do not say which version of the book they mean. `hsts_seconds` is for who serves over TLS
    alone.
    """

    signing_keys_dir: Path
    api_port: Port = 8000
    access_token_lifetime: timedelta = timedelta(minutes=15)
    refresh_token_lifetime: timedelta = timedelta(days=30)
    body_max_bytes: PositiveInt = 64 * 1024
    if_match_required: bool = False
    hsts_seconds: NonNegativeInt = 0
