from datetime import timedelta
from pathlib import Path
from typing import Annotated

from pydantic import Field, NonNegativeInt, PositiveInt

from common.settings import (
    BrokerSettings,
    CacheSettings,
    DatabaseSettings,
    Port,
    ProcessSettings,
    Settings,
)

NotNegative = Annotated[timedelta, Field(ge=timedelta(0))]


class KeySettings(Settings):
    """Where the private keys of the access tokens stand; a new one is published for the lead, then signs."""

    signing_keys_dir: Path
    signing_key_lead: NotNegative = timedelta(minutes=6)


class ApiSettings(KeySettings, DatabaseSettings, BrokerSettings, CacheSettings, ProcessSettings):
    """What `serve` needs to know.

    `body_max_bytes` bounds every body but that of the import, which is streamed. `if_match_required` refuses
    changes that do not say which version of the book they mean. `hsts_seconds` is for who serves over TLS
    alone.
    """

    api_port: Port = 8000
    access_token_lifetime: Annotated[timedelta, Field(gt=timedelta(0), le=timedelta(hours=1))] = timedelta(
        minutes=15
    )
    refresh_token_lifetime: timedelta = timedelta(days=30)
    body_max_bytes: PositiveInt = 64 * 1024
    if_match_required: bool = False
    hsts_seconds: NonNegativeInt = 0
