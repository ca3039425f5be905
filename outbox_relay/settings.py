from pydantic import PositiveInt

from common.settings import (
    BrokerSettings,
    CacheTlsSettings,
    CacheUrl,
    DatabaseSettings,
    Port,
    ProcessSettings,
)


class RelaySettings(DatabaseSettings, BrokerSettings, CacheTlsSettings, ProcessSettings):
    """The relay's environment. The cache is only asked for by `/readyz`; the relay does not use it."""

    relay_health_port: Port = 8001
    relay_window: PositiveInt = 1000
    relay_history_days: PositiveInt = 30
    cache_url: CacheUrl | None = None
