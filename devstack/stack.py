"""The servers of one checkout: those of `make up` on known ports, those of the tests on free ones."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pymysql
from pydantic import SecretStr
from sqlalchemy import make_url
from sqlalchemy.exc import ArgumentError

from common.broker import broker_connection
from common.cache import thread_redis
from common.settings import BrokerSettings, CacheSettings, DatabaseSettings
from devstack.broker import broker_server
from devstack.cache import cache_server
from devstack.database import database_server
from devstack.folders import Folders
from devstack.own_urls import OwnUrls
from devstack.packages import install_missing
from devstack.servers import Server, SetupError, TlsFiles, free_port, port_from_environment, require_free

ROOT = Path(__file__).resolve().parents[1]
STATE = ROOT / ".local"


@dataclass(frozen=True)
class Stack:
    """Three servers, in the order in which they are started."""

    database: Server
    broker: Server
    cache: Server

    @property
    def servers(self) -> tuple[Server, ...]:
        """All three."""
        return (self.database, self.broker, self.cache)

    @property
    def database_url(self) -> str:
        """Where the database is."""
        return self.database.url

    @property
    def broker_url(self) -> str:
        """Where the broker is."""
        return self.broker.url

    @property
    def cache_url(self) -> str:
        """Where the cache is."""
        return self.cache.url

    @property
    def environment(self) -> dict[str, str]:
        """What tells a service where they are."""
        return {
            "DATABASE_URL": self.database.url,
            "BROKER_URL": self.broker.url,
            "CACHE_URL": self.cache.url,
        }

    def start(self) -> None:
        """Start all; if one cannot be started, none is left running."""
        try:
            for server in self.servers:
                server.start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop all, the last first."""
        for server in reversed(self.servers):
            server.stop()


def local_stack() -> Stack:
    """The stack of `make up`; a server whose URL is in the environment is foreign and only waited for.

    URLs that came into the environment from this checkout's up.env are those of its own servers.
    """
    folders = Folders(STATE)
    own = OwnUrls(folders)
    urls = map(os.environ.get, ("DATABASE_URL", "BROKER_URL", "CACHE_URL"))
    database_url, broker_url, cache_url = map(own.external, urls)
    packages = {"mariadb-server": database_url, "rabbitmq-server": broker_url, "redis-server": cache_url}
    install_missing(tuple(package for package, url in packages.items() if not url))
    stack = Stack(
        _foreign("database", database_url, _ask_database)
        if database_url
        else database_server(folders, port_from_environment("DATABASE_PORT", 33306)),
        _foreign("broker", broker_url, _ask_broker)
        if broker_url
        else _local_broker(folders, port_from_environment("BROKER_PORT", 35672)),
        _foreign("cache", cache_url, _ask_cache)
        if cache_url
        else cache_server(folders, port_from_environment("CACHE_PORT", 36379)),
    )
    own.add(*(server.url for server in stack.servers if server.processes))
    return stack


def throwaway_stack(root: Path, tls: TlsFiles | None = None) -> Stack:
    """Servers on free ports, for tests; with `tls` none of them takes plaintext."""
    folders = Folders(root)
    install_missing(("mariadb-server", "rabbitmq-server", "redis-server"))
    return Stack(
        database_server(folders, free_port(), for_tests=True, tls=tls),
        broker_server(folders, free_port(), free_port(), free_port(), tls),
        cache_server(folders, free_port(), tls),
    )


def _local_broker(folders: Folders, port: int) -> Server:
    for helper in (port + 1, port + 2):
        require_free(helper, "BROKER_PORT (its two next ports are needed as well)")
    return broker_server(folders, port, port + 1, port + 2)


def _foreign(name: str, url: str, ask: Callable[[str], None]) -> Server:
    variable = f"{name.upper()}_URL"
    try:
        parts = make_url(url)
    except (ArgumentError, ValueError):  # the latter for a port that is no number
        raise SetupError(f"{variable} must be a URL such as .env.example shows.") from None
    title = f"external {parts.host}:{parts.port}"
    return Server(name, title, parts.port or 0, url, (), lambda: ask(url), variable)


# As the services do, so that TLS is asked for by the same variables.


def _ask_database(url: str) -> None:
    parts = make_url(url)
    tls = DatabaseSettings(database_url=SecretStr(url)).database_tls
    pymysql.connect(
        host=parts.host,
        port=parts.port or 3306,
        user=parts.username,
        password=str(parts.password or ""),
        database=parts.database,
        connect_timeout=2,
        ssl=tls.context() if tls.given else None,
    ).close()


def _ask_broker(url: str) -> None:
    with broker_connection(BrokerSettings(broker_url=SecretStr(url)), "devstack") as connection:
        connection.ensure_connection(max_retries=0)


def _ask_cache(url: str) -> None:
    settings = CacheSettings(cache_url=SecretStr(url))
    with thread_redis(settings.cache_url, settings.cache_tls, socket_timeout=2) as client:
        client.ping()
