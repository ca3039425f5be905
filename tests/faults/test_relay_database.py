"""A relay whose database fails in the middle of its work, each time for real."""

import signal
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager

import pytest
from sqlalchemy import Connection, Engine, text

from devstack.stack import Stack
from tests.fixtures.relay import Relaying, Tap, backlog, logged, versions_by_first_appearance, write
from tests.waiting import eventually

STATEMENTS = text(
    "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND info LIKE :begin"
    " AND id <> CONNECTION_ID()"
)


@contextmanager
def locked(engine: Engine, statement: str) -> Iterator[Connection]:
    """A transaction that stays open, and keeps the locks of `statement`, until the block ends."""
    with engine.connect().execution_options(isolation_level="READ COMMITTED") as connection:
        connection.execute(text(statement))
        yield connection
        connection.rollback()


@contextmanager
def renamed(engine: Engine, name: str, other: str) -> Iterator[None]:
    with engine.connect() as connection:
        connection.exec_driver_sql(f"RENAME TABLE {name} TO {other}")
        try:
            yield
        finally:
            connection.exec_driver_sql(f"RENAME TABLE {other} TO {name}")


def kill_the_connection_that_runs(engine: Engine, begin: str) -> None:
    def running() -> int:
        with engine.connect() as connection:
            return int(connection.execute(STATEMENTS, {"begin": f"{begin}%"}).scalar() or 0)

    found = eventually(running, because=f"{begin} waits for a lock")
    with engine.connect() as connection:
        connection.exec_driver_sql(f"KILL {found}")
    eventually(lambda: running() != found, because="it has gone")


def test_relay_waits_while_the_database_is_down_and_goes_on_when_it_is_back(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    stack: Stack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    tapped = tap()
    with relaying() as (_, metrics):
        write(relay_engine, [(1, 1)])
        eventually(lambda: backlog(relay_engine) == 0)
        relay_engine.dispose()
        stack.database.stop()
        try:
            eventually(lambda: logged(caplog, "relay cannot renew leases"))
            eventually(lambda: logged(caplog, "relay cannot read outbox"))
        finally:
            stack.database.start()
        write(relay_engine, [(1, 2)])
        eventually(lambda: backlog(relay_engine) == 0)
        assert metrics.registry.get_sample_value("relay_connects_total") == 1
    assert versions_by_first_appearance(tapped) == {1: [1, 2]}


def test_relay_that_is_stopped_while_the_database_is_down_ends_and_lets_its_leases_run_out(
    relay_engine: Engine,
    relaying: Relaying,
    stack: Stack,
    caplog: pytest.LogCaptureFixture,
) -> None:
    relay_engine.dispose()
    try:
        with relaying() as (relay, _):
            eventually(lambda: relay.connected)
            stack.database.stop()
        assert logged(caplog, "shards not given back, they run out")
    finally:
        stack.database.start()


def test_relay_that_is_stopped_while_the_database_is_frozen_ends_within_its_grace_period(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap], stack: Stack
) -> None:
    tap()
    database = stack.database.processes[-1]
    try:
        # Ends by itself in time, or the fixture says so.
        with relaying() as (relay, _):
            eventually(lambda: relay.connected)
            database.signal(signal.SIGSTOP)
    finally:
        database.signal(signal.SIGCONT)


def test_connection_lost_while_settling_settles_later_and_sends_nothing_twice(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tapped = tap()
    ids = write(relay_engine, [(1, 1), (2, 1), (1, 2)])
    with ExitStack() as lock:
        lock.enter_context(locked(relay_engine, "SELECT id FROM outbox FOR UPDATE"))
        with relaying():
            for _ in range(2):
                kill_the_connection_that_runs(relay_engine, "DELETE FROM outbox")
            eventually(lambda: logged(caplog, "relay cannot settle yet"))
            assert backlog(relay_engine) == 3
            lock.close()
            eventually(lambda: backlog(relay_engine) == 0)
    assert sorted(str(message["id"]) for message in tapped.drain()) == sorted(ids)


def test_table_that_is_missing_makes_the_relay_begin_again_until_it_is_there(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    caplog: pytest.LogCaptureFixture,
) -> None:
    tapped = tap()
    write(relay_engine, [(1, 1), (1, 2)])
    with ExitStack() as rename:
        rename.enter_context(renamed(relay_engine, "outbox", "outbox_away"))
        with relaying() as (_, metrics):
            eventually(lambda: logged(caplog, "relay failed, begins again"))
            eventually(lambda: (metrics.registry.get_sample_value("relay_connects_total") or 0) >= 2)
            rename.close()
            eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == {1: [1, 2]}
