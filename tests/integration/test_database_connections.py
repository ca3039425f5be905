"""How long a connection of a thread's engine lives when the server ends those that are idle."""

import time
from collections.abc import Iterator

import pytest
from sqlalchemy import Engine, text

from common.database import thread_engine, transaction
from common.settings import DatabaseSettings
from tests.waiting import eventually

_IDLE_SECONDS = 1


@pytest.fixture
def engine(fresh_settings: DatabaseSettings) -> Iterator[Engine]:
    made = thread_engine(fresh_settings, idle_timeout=_IDLE_SECONDS)
    yield made
    made.dispose()


def use(engine: Engine) -> int:
    """The number of the connection that was used."""
    with transaction(engine) as connection:
        return int(connection.execute(text("SELECT CONNECTION_ID()")).scalar_one())


def test_a_connection_in_use_lives_longer_than_the_time_that_an_idle_one_has(
    fresh_settings: DatabaseSettings,
) -> None:
    patient, begun = thread_engine(fresh_settings, idle_timeout=5), time.monotonic()
    numbers = set[int]()

    def used_for_long() -> bool:
        numbers.add(use(patient))
        return time.monotonic() - begun > 6

    eventually(used_for_long)
    patient.dispose()
    assert len(numbers) == 1


def test_a_connection_that_the_server_ended_while_it_was_idle_is_replaced_before_it_is_used(
    engine: Engine, reader_engine: Engine
) -> None:
    number = use(engine)
    alive = text("SELECT COUNT(*) FROM information_schema.processlist WHERE id = :number")

    def ended() -> bool:
        with reader_engine.connect() as connection:
            return int(connection.execute(alive, {"number": number}).scalar_one()) == 0

    eventually(ended)
    assert use(engine) != number
