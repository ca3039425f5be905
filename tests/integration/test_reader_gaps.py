"""A gap is reported while it lasts: on `/readyz`, in the metrics, and in the log of the one who records."""

import asyncio
import contextlib
import logging
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from sqlalchemy import Engine, text

from common.database import Database
from common.settings import DatabaseSettings
from grpc_reader import gaps as gaps_module
from grpc_reader import waiting as waiting_module
from grpc_reader.arrival import Arrival, understand
from grpc_reader.consumer import Consumer
from grpc_reader.gaps import Gaps
from grpc_reader.generations import Generations
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.recorder import Recorder
from tests.fixtures.reader import Publisher, make_event
from tests.waiting import eventually

Recorded = Callable[[], list[tuple[int, int, int]]]


class Looking:
    """Gaps that look, in a loop and thread of their own."""

    def __init__(self, settings: DatabaseSettings, consumer: Consumer) -> None:
        self.metrics = ReaderMetrics()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=lambda: self._loop.run_until_complete(self._look()))
        self._database, self._consumer = settings, consumer
        self._started = threading.Event()
        self._thread.start()
        self._started.wait(10)

    def waiting(self) -> dict[str, Any]:
        found = asyncio.run_coroutine_threadsafe(self._gaps.facts(), self._loop).result(10)["waiting"]
        return dict(found)

    def gauge(self, name: str) -> float | None:
        return self.metrics.registry.get_sample_value(name)

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._gaps.close)
        self._thread.join(10)
        self._loop.close()

    async def _look(self) -> None:
        database = Database(self._database)
        self._gaps = Gaps(database, self._consumer, self.metrics)
        self._started.set()
        await self._gaps.run()
        await database.close()


@pytest.fixture
def looking(fresh_settings: DatabaseSettings, consumer: Consumer) -> Iterator[Looking]:
    made = Looking(fresh_settings, consumer)
    yield made
    made.close()


def waiting_events(engine: Engine) -> int:
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM waiting_event")).scalar_one())


def said(caplog: pytest.LogCaptureFixture, message: str) -> list[tuple[int, int, int]]:
    """(level, book id, missing version) of the lines with this message."""
    found = [each for each in caplog.records if each.getMessage() == message]
    return [(each.levelno, vars(each)["book_id"], vars(each)["missing_version"]) for each in found]


def test_a_gap_is_shown_and_logged_when_it_begins_while_it_lasts_and_when_it_is_closed(
    looking: Looking,
    publisher: Publisher,
    recorded: Recorded,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    monkeypatch.setattr(gaps_module, "REMINDER_SECONDS", 0.5)
    assert looking.waiting() == {"events": 0, "oldest_seconds": None}
    publisher.publish(make_event(7, 1), make_event(7, 3), make_event(7, 4), make_event(8, 2))
    eventually(lambda: looking.waiting()["events"] == 3)
    assert 0 <= looking.waiting()["oldest_seconds"] < 60
    eventually(lambda: looking.gauge("reader_waiting_events") == 3)
    eventually(lambda: (looking.gauge("reader_waiting_oldest_seconds") or 0) > 0)
    warning = logging.WARNING
    eventually(lambda: sorted(said(caplog, "gap begins")) == [(warning, 7, 2), (warning, 8, 1)])
    eventually(lambda: said(caplog, "gap lasts").count((warning, 7, 2)) >= 2)
    publisher.publish(make_event(7, 2))
    eventually(lambda: said(caplog, "gap closed") == [(logging.INFO, 7, 2)])
    assert [(book, version) for _, book, version in recorded()] == [(7, 1), (7, 2), (7, 3), (7, 4)]
    publisher.publish(make_event(8, 1))
    eventually(lambda: looking.waiting() == {"events": 0, "oldest_seconds": None})
    eventually(lambda: looking.gauge("reader_waiting_oldest_seconds") == 0)
    assert len(said(caplog, "gap begins")) == 2, "each gap begins once"


def test_a_book_whose_next_event_is_missing_too_has_another_gap(
    looking: Looking, publisher: Publisher, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.publish(make_event(7, 2), make_event(7, 4))
    eventually(lambda: said(caplog, "gap begins") == [(logging.WARNING, 7, 1)])
    publisher.publish(make_event(7, 1))
    eventually(lambda: said(caplog, "gap begins")[1:] == [(logging.WARNING, 7, 3)])


def test_a_reader_that_does_not_record_shows_the_gap_and_leaves_the_log_to_the_other(
    consumer: Consumer,
    publisher: Publisher,
    fresh_settings: DatabaseSettings,
    reader_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher.publish(make_event(7, 1), make_event(7, 3))
    eventually(lambda: waiting_events(reader_engine) == 1)
    consumer.stop()
    assert consumer.join(10)
    assert not consumer.recording
    with contextlib.closing(Looking(fresh_settings, consumer)) as looking:
        eventually(lambda: looking.waiting()["events"] == 1)
        eventually(lambda: looking.gauge("reader_waiting_events") == 1)
    assert said(caplog, "gap begins") == []


def test_gaps_are_seen_again_when_their_table_was_gone(
    looking: Looking, publisher: Publisher, reader_engine: Engine, caplog: pytest.LogCaptureFixture
) -> None:
    def complaints() -> int:
        return sum(each.getMessage() == "gaps not seen" for each in caplog.records)

    with reader_engine.connect() as other:
        other.exec_driver_sql("RENAME TABLE waiting_event TO away")
        try:
            eventually(lambda: complaints() == 1)
        finally:
            other.exec_driver_sql("RENAME TABLE away TO waiting_event")
    publisher.publish(make_event(7, 2))
    eventually(lambda: looking.waiting()["events"] == 1)
    assert complaints() == 1, "it is said once"


def test_of_the_waiting_events_only_those_are_read_that_need_not_wait_any_longer(
    reader_engine: Engine, recorded: Recorded, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A gap may hold back very many, and each batch of their book is compared with them."""
    generations, recorder = Generations(reader_engine), Recorder(reader_engine)
    generations.prepare()
    generations.register("a" * 32, replacing=None)
    read: list[int] = []

    def note(body: str) -> Arrival:
        arrival = understand(body)
        read.append(arrival.version)
        return arrival

    def record(*versions: int) -> None:
        recorder.record([understand(make_event(7, version)) for version in versions], {"a" * 32})

    monkeypatch.setattr(waiting_module, "understand", note)
    record(1, *range(3, 451), *range(460, 1500))
    record(1500)
    record(3, 452)
    assert (read, waiting_events(reader_engine)) == ([], 1490)
    # The batch and the table take turns, and one event is in both.
    record(451, 2, 453, 4)
    assert read[:449] == [*range(3, 451), 452]
    assert len(read) <= 3 * 200, "pages"
    assert [version for _, _, version in recorded()] == list(range(1, 454))
    assert waiting_events(reader_engine) == 1041
    record(*range(454, 460))
    assert [version for _, _, version in recorded()] == list(range(1, 1501))
    assert waiting_events(reader_engine) == 0
