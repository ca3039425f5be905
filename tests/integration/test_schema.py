"""No service serves on a schema that it does not know."""

import contextlib
import secrets
import socket
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, event, make_url, text

from common.database import thread_engine
from common.errors import StartError
from common.schema import SCHEMA_REVISION, await_known_schema, require_known_schema
from common.settings import DatabaseSettings
from devstack.stack import Stack
from tests.fixtures.schema import database_settings
from tests.fixtures.wire import dead_wire, wire_to
from tests.waiting import eventually


@pytest.fixture
def empty(stack: Stack) -> Iterator[Engine]:
    """A database in which nothing is."""
    name = f"test_{secrets.token_hex(6)}"
    admin = thread_engine(database_settings(stack.database_url), autocommit=True)
    with admin.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine = thread_engine(
        database_settings(
            make_url(stack.database_url).set(database=name).render_as_string(hide_password=False)
        )
    )
    yield engine
    engine.dispose()
    with admin.connect() as connection:
        connection.execute(text(f"DROP DATABASE {name}"))
    admin.dispose()


def mark(engine: Engine, revision: str) -> None:
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE alembic_version (version_num VARCHAR(32) NOT NULL)"))
        connection.execute(text("INSERT INTO alembic_version VALUES (:it)"), {"it": revision})


def test_the_schema_of_this_code_is_known(fresh_settings: DatabaseSettings) -> None:
    engine = thread_engine(fresh_settings)
    require_known_schema(engine)
    engine.dispose()


def test_a_database_without_schema_is_told_to_be_migrated(empty: Engine) -> None:
    with pytest.raises(StartError, match="no schema yet: run `python -m alembic"):
        require_known_schema(empty)


def test_a_service_waits_for_a_schema_and_for_the_end_of_its_migration(
    empty: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    with ThreadPoolExecutor() as pool, caplog.at_level("WARNING"):
        waiting = pool.submit(await_known_schema, empty)
        eventually(lambda: "waiting for schema" in caplog.messages)
        mark(empty, "0001")
        looks: list[str] = []
        event.listen(empty, "before_cursor_execute", lambda *found: looks.append(found[2]))
        eventually(lambda: len(looks) >= 2, because="it has seen that schema")
        assert not waiting.done()
        with empty.begin() as connection:
            connection.execute(text("UPDATE alembic_version SET version_num = :it"), {"it": SCHEMA_REVISION})
        waiting.result(timeout=10)
    assert caplog.messages == ["waiting for schema"]


def test_a_service_gives_a_schema_up_that_does_not_come(empty: Engine) -> None:
    with pytest.raises(StartError, match="no schema yet"):
        await_known_schema(empty, patience_seconds=1)


@pytest.mark.parametrize("revision", ["0001", "9999"])
def test_a_service_does_not_wait_where_another_schema_is(
    empty: Engine, caplog: pytest.LogCaptureFixture, revision: str
) -> None:
    mark(empty, revision)
    with pytest.raises(StartError, match=f"at schema {revision}"):
        await_known_schema(empty)
    assert caplog.messages == []


def test_another_schema_is_named_with_the_one_that_is_known(empty: Engine) -> None:
    mark(empty, "9999")
    with pytest.raises(StartError, match=f"at schema 9999, this code knows {SCHEMA_REVISION}"):
        require_known_schema(empty)


def test_a_server_that_does_not_answer_is_waited_for_and_then_given_up() -> None:
    with dead_wire() as nowhere:
        url = SecretStr(f"mysql://u:p@127.0.0.1:{nowhere.port}/n")
        engine = thread_engine(DatabaseSettings(database_url=url))
        with pytest.raises(StartError, match="does not answer"):
            require_known_schema(engine, patience_seconds=3)
        engine.dispose()
        assert 2 <= nowhere.connections <= 3


def test_a_server_that_is_silent_is_given_up_as_soon_after_the_answer_to_a_last_try() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = SecretStr(f"mysql://u:p@127.0.0.1:{silent.getsockname()[1]}/n")
        engine = thread_engine(DatabaseSettings(database_url=url), read_timeout=2)
        with pytest.raises(StartError, match="does not answer"):
            require_known_schema(engine, patience_seconds=4)
        engine.dispose()
        silent.settimeout(0)
        tries = 0
        with contextlib.suppress(BlockingIOError):
            while True:
                silent.accept()[0].close()
                tries += 1
    assert 1 <= tries <= 2


def test_a_server_that_comes_late_is_waited_for(stack: Stack, module_database_url: str) -> None:
    with wire_to(make_url(stack.database_url).port or 0) as wire:
        url = make_url(module_database_url).set(port=wire.port).render_as_string(hide_password=False)
        engine = thread_engine(database_settings(url))
        wire.cut()
        wire.mend_after(1)
        require_known_schema(engine)
        engine.dispose()
        assert wire.connections >= 2
