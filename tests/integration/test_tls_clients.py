"""What the services open: TLS to the database, the broker and the cache, all of which want certificates."""

import asyncio
import contextlib
import socket
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from types import MappingProxyType
from typing import Any

import pytest
from pydantic import SecretStr
from sqlalchemy import text

from common.broker import BROKER_ERRORS, DOORBELL, broker_connection
from common.cache import BookCache, thread_redis
from common.database import Database, thread_engine
from common.errors import StartError
from common.schema import require_known_schema
from common.settings import BrokerSettings, CacheSettings, DatabaseSettings
from devstack.servers import TlsFiles
from devstack.stack import Stack, local_stack
from grpc_reader.deadline import cut_after
from outbox_relay.session import BrokerSession
from tests.fixtures.certificates import Authority, client_variables

_ENCRYPTED = (("amqp:", "amqps:"), ("redis:", "rediss:"))


def tls_fields(prefix: str, files: TlsFiles) -> dict[str, Any]:
    return {
        f"{prefix}_tls_ca": files.ca,
        f"{prefix}_tls_certificate": files.certificate,
        f"{prefix}_tls_key": files.key,
    }


def encrypted(url: str) -> SecretStr:
    for plain, secure in _ENCRYPTED:
        url = url.replace(plain, secure)
    return SecretStr(url)


def ask_database(stack: Stack, files: TlsFiles, change: Callable[[str], str] = str) -> None:
    """From a thread, as the relay and the commands do."""
    url = SecretStr(change(stack.database_url))
    engine = thread_engine(DatabaseSettings(database_url=url, **tls_fields("database", files)))
    try:
        with engine.connect() as connection:
            found = connection.execute(text("SHOW STATUS LIKE 'Ssl_version'")).one()
            assert found[1] in {"TLSv1.2", "TLSv1.3"}
    finally:
        engine.dispose()


def ask_database_in_loop(stack: Stack, files: TlsFiles, change: Callable[[str], str] = str) -> None:
    """As the API and the calls of the reader do."""
    url = SecretStr(change(stack.database_url))
    settings = DatabaseSettings(database_url=url, **tls_fields("database", files))

    async def ask() -> None:
        database = Database(settings, pool_size=1)
        try:
            async with database.read() as connection:
                found = (await connection.execute(text("SHOW STATUS LIKE 'Ssl_version'"))).one()
                assert found[1] in {"TLSv1.2", "TLSv1.3"}
        finally:
            await database.close()

    asyncio.run(ask())


def broker_settings(stack: Stack, files: TlsFiles, change: Callable[[str], str] = str) -> BrokerSettings:
    return BrokerSettings(broker_url=encrypted(change(stack.broker_url)), **tls_fields("broker", files))


def ask_broker(stack: Stack, files: TlsFiles, change: Callable[[str], str] = str) -> None:
    with broker_connection(broker_settings(stack, files, change), "test of TLS") as connection:
        connection.ensure_connection(max_retries=0)
        assert connection.connection.sock.version() in {"TLSv1.2", "TLSv1.3"}


def ask_cache(stack: Stack, files: TlsFiles, change: Callable[[str], str] = str) -> None:
    """From a thread, as the consumer and the relay do."""
    settings = CacheSettings(cache_url=encrypted(change(stack.cache_url)), **tls_fields("cache", files))
    with thread_redis(settings.cache_url, settings.cache_tls, socket_timeout=2) as redis:
        assert redis.ping()


def ask_cache_in_loop(stack: Stack, files: TlsFiles, change: Callable[[str], str] = str) -> None:
    settings = CacheSettings(cache_url=encrypted(change(stack.cache_url)), **tls_fields("cache", files))

    async def ask() -> None:
        cache = BookCache(settings)
        try:
            await cache.ping()
        finally:
            await cache.close()

    asyncio.run(ask())


Ask = Callable[..., None]
WAYS: Mapping[str, Ask] = MappingProxyType(
    {
        "database": ask_database,
        "database-loop": ask_database_in_loop,
        "broker": ask_broker,
        "cache": ask_cache,
        "cache-loop": ask_cache_in_loop,
    }
)


@pytest.fixture(params=WAYS)
def ask(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> Ask:
    monkeypatch.setattr("common.cache._TIMEOUT_SECONDS", 2.0)  # patience with a busy machine
    return WAYS[request.param]


@contextlib.contextmanager
def refused(*reasons: str) -> Iterator[None]:
    """By an error that has one of the reasons in it, or in what caused it, or in what was hidden by it."""
    with pytest.raises(Exception) as caught:  # noqa: PT011  each library has a class of its own
        yield
    said, error = "", caught.value
    while error is not None:
        said += f"{error!r} "
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    assert any(reason in said for reason in reasons), said


def test_a_server_of_the_right_ca_and_name_is_spoken_to(
    ask: Ask, tls_stack: Stack, of_client: TlsFiles
) -> None:
    ask(tls_stack, of_client)


def test_a_server_of_a_foreign_ca_is_refused(
    ask: Ask, tls_stack: Stack, of_client: TlsFiles, stranger: Authority
) -> None:
    with refused("unable to get local issuer certificate", "self-signed certificate"):
        ask(tls_stack, replace(of_client, ca=stranger.ca))


def test_a_server_with_another_name_is_refused(ask: Ask, tls_stack: Stack, of_client: TlsFiles) -> None:
    with refused("Hostname mismatch, certificate is not valid for 'localhost'"):
        ask(tls_stack, of_client, lambda url: url.replace("127.0.0.1", "localhost"))


def test_a_server_without_tls_is_refused(ask: Ask, stack: Stack, of_client: TlsFiles) -> None:
    with refused(
        "SSL", "EOF", "Lost connection", "Connection lost", "ConnectionReset", "timed out", "Timeout"
    ):
        ask(stack, of_client)


def test_a_client_that_the_server_does_not_know_is_refused(
    ask: Ask, tls_stack: Stack, authority: Authority, of_stranger: TlsFiles
) -> None:
    """What the settings name is what is shown: with a stranger's the servers of this test refuse."""
    with refused("alert", "Access denied", "EOF", "Connection reset", "Lost connection", "Connection lost"):
        ask(tls_stack, replace(of_stranger, ca=authority.ca))


def test_a_service_that_refuses_the_databases_certificate_says_why_when_it_starts(
    tls_stack: Stack, of_client: TlsFiles, stranger: Authority
) -> None:
    fields = tls_fields("database", replace(of_client, ca=stranger.ca))
    engine = thread_engine(DatabaseSettings(database_url=SecretStr(tls_stack.database_url), **fields))
    said = r"certificate of the database is refused \(.+\): check DATABASE_TLS_CA"
    with pytest.raises(StartError, match=said):
        require_known_schema(engine, patience_seconds=1)


def test_a_ring_over_tls_is_heard_at_once(tls_stack: Stack, of_client: TlsFiles) -> None:
    """A message is three frames in one piece of TLS: select() tells of the first alone."""
    settings = broker_settings(tls_stack, of_client)
    near, far = socket.socketpair()
    with near, far, BrokerSession(settings, "listening relay", near) as session:
        session.take_ring()
        with broker_connection(settings, "ringing") as other:
            other.Producer(other.default_channel, exchange=DOORBELL).publish(b"", retry=False)
            begun = time.monotonic()
            while not session.take_ring():
                session.wait(4)
            assert time.monotonic() - begun < 2


def test_a_broker_that_does_not_answer_over_tls_is_cut_off(tls_stack: Stack, of_client: TlsFiles) -> None:
    with broker_connection(broker_settings(tls_stack, of_client), "waiting") as connection:
        connection.ensure_connection(max_retries=0)
        begun = time.monotonic()
        with pytest.raises(BROKER_ERRORS), cut_after(connection, 0.3):
            connection.drain_events(timeout=10)
        assert time.monotonic() - begun < 5
        connection.collect()


@pytest.mark.parametrize(
    ("kind", "values", "variable"),
    [
        (BrokerSettings, {"broker_url": "amqps://a:b@h/?ssl_cert_reqs=CERT_NONE"}, "BROKER_URL"),
        (CacheSettings, {"cache_url": "rediss://h/0?ssl_cert_reqs=none"}, "CACHE_URL"),
        (DatabaseSettings, {"database_url": "mysql://a:b@h/n?ssl_disabled=true"}, "DATABASE_URL"),
    ],
)
def test_an_address_cannot_switch_verification_off(
    kind: type[Any], values: dict[str, str], variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in values.items():
        monkeypatch.setenv(name.upper(), value)
    with pytest.raises(StartError, match=f"{variable}.*must not have ssl options"):
        thread_engine(kind.from_environment())


def test_make_up_asks_external_servers_with_the_same_files(
    tls_stack: Stack, of_client: TlsFiles, monkeypatch: pytest.MonkeyPatch
) -> None:
    for server in tls_stack.servers:
        name = server.name.upper()
        monkeypatch.setenv(f"{name}_URL", server.url)
        for variable, value in client_variables(f"{name}_TLS", of_client).items():
            monkeypatch.setenv(variable, value)
    for server in local_stack().servers:
        assert not server.processes
        server.probe()
