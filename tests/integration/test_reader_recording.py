"""The consumer against a real broker, database and cache."""

import logging
from collections.abc import Callable, Collection, Sequence

import pytest
from amqp import Channel
from sqlalchemy import Engine, select, text

from common.settings import BrokerSettings, CacheSettings
from grpc_reader.arrival import Arrival, understand
from grpc_reader.consumer import Consumer
from grpc_reader.generations import Generations, SupersededError
from grpc_reader.recorder import Recorder
from grpc_reader.tables import DeliveredEventRow
from tests.fixtures.reader import Publisher, make_event, running_consumer
from tests.waiting import eventually

Recorded = Callable[[], list[tuple[int, int, int]]]


def test_an_event_is_recorded_once_however_often_it_comes(
    consumer: Consumer, publisher: Publisher, recorded: Recorded
) -> None:
    first, second = make_event(1, 1), make_event(1, 2)
    publisher.publish(first, first, second, first, second)
    publisher.publish(make_event(2, 1))
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2), (3, 2, 1)])
    eventually(lambda: publisher.count("bookstore.reader") == 0)


def test_what_is_recorded_is_the_event_to_the_letter(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, reader_engine: Engine
) -> None:
    body = make_event(9_000_000_000, 1, title="Ё 🐉 ß")
    publisher.publish(body)
    eventually(recorded)
    with reader_engine.connect() as connection:
        row = connection.execute(select(DeliveredEventRow.__table__)).one()  # type: ignore[attr-defined]
        connection.rollback()
    event = understand(body).event
    assert row.body == body
    assert (row.event_id, row.type, row.event_time) == (str(event.id), event.type, event.time)
    assert row.record_time >= event.time


def test_a_book_is_recorded_in_version_order_and_a_gap_waits(
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    reader_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO)
    publisher.publish(make_event(1, 3), make_event(1, 2), make_event(2, 1))
    eventually(lambda: recorded() == [(1, 2, 1)])
    eventually(lambda: publisher.count("bookstore.reader") == 0)

    def waiting() -> list[int]:
        said = [each for each in caplog.records if "waits for an earlier" in each.getMessage()]
        return sorted(vars(each)["version"] for each in said)

    eventually(lambda: waiting() == [2, 3])
    publisher.publish(make_event(1, 1))
    eventually(lambda: recorded() == [(1, 2, 1), (2, 1, 1), (3, 1, 2), (4, 1, 3)])
    with reader_engine.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM waiting_event")).scalar() == 0
        connection.rollback()


def test_each_recorded_event_is_one_line_with_its_facts(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    body = make_event(1, 1)
    publisher.publish(body, body)
    eventually(recorded)
    eventually(lambda: [each for each in caplog.records if each.getMessage() == "event delivered"])
    (line,) = [vars(each) for each in caplog.records if each.getMessage() == "event delivered"]
    assert (line["type"], line["book_id"], line["version"]) == ("bookstore.book.created.v1", 1, 1)
    assert (line["event_id"], line["position"]) == (str(understand(body).event.id), 1)
    assert 0 <= float(line["latency_ms"]) < 5000


def test_what_is_not_understood_is_dead_lettered_and_stops_nothing(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.publish(make_event(1, 1), "no event", make_event(1, 2), b"\xff", make_event(1, 3))
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2), (3, 1, 3)])

    def reasons() -> list[str]:
        said = [each for each in caplog.records if each.getMessage() == "event dead-lettered"]
        return [vars(each)["reason"] for each in said]

    # The letter is in its queue before the reader hears so.
    eventually(lambda: len(reasons()) == 2)
    assert "not UTF-8" in reasons()
    eventually(lambda: publisher.count("bookstore.reader.dead") == 2)


def test_an_event_with_the_id_of_another_is_dead_lettered_and_stops_nothing(
    consumer: Consumer, publisher: Publisher, recorded: Recorded
) -> None:
    first = make_event(1, 1)
    twin = make_event(2, 1, id=str(understand(first).event.id))
    publisher.publish(first, make_event(3, 1), twin, make_event(4, 1))
    eventually(lambda: {book for _, book, _ in recorded()} == {1, 3, 4})
    eventually(lambda: publisher.count("bookstore.reader.dead") == 1)
    assert [position for position, _, _ in recorded()] == [1, 2, 3]


def test_an_event_with_a_used_id_waits_for_nothing_and_costs_no_event_of_its_book(
    consumer: Consumer, publisher: Publisher, recorded: Recorded
) -> None:
    used = make_event(2, 1)
    false = make_event(1, 3, id=str(understand(used).event.id))
    publisher.publish(used, make_event(1, 1))
    eventually(lambda: recorded() == [(1, 2, 1), (2, 1, 1)])
    publisher.publish(false)
    eventually(lambda: publisher.count("bookstore.reader.dead") == 1)
    publisher.publish(make_event(1, 2), make_event(1, 3))
    eventually(lambda: recorded()[2:] == [(3, 1, 2), (4, 1, 3)])
    assert publisher.count("bookstore.reader.dead") == 1


def test_an_event_whose_version_another_one_has_is_dead_lettered_and_no_repeat(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """Of a recorded and of a waiting one; their own repeats are ignored as ever."""
    first, waiting = make_event(1, 1), make_event(1, 3)
    publisher.publish(first, waiting, make_event(2, 1))
    eventually(lambda: recorded() == [(1, 1, 1), (2, 2, 1)])
    publisher.publish(first, make_event(1, 1), waiting, make_event(1, 3), make_event(2, 2))
    eventually(lambda: publisher.count("bookstore.reader.dead") == 2)
    publisher.publish(make_event(1, 2))
    eventually(lambda: [found[1:] for found in recorded()] == [(1, 1), (2, 1), (2, 2), (1, 2), (1, 3)])
    reasons = {vars(each)["reason"] for each in caplog.records if each.getMessage() == "event dead-lettered"}
    assert reasons == {"another event has this version of its book, or its id"}
    eventually(lambda: publisher.count("bookstore.reader.dead") == 2)


def test_an_event_is_acknowledged_only_after_its_commit(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, reader_engine: Engine
) -> None:
    publisher.publish(make_event(1, 1))
    eventually(recorded)
    with reader_engine.connect() as blocker:
        blocker.execute(text("SELECT * FROM recorder WHERE id = 1 FOR UPDATE"))
        publisher.publish(make_event(1, 2))
        eventually(lambda: _unacknowledged(reader_engine), because="the consumer waits for the row")
        # It is stopped with the event in hand, and must give it back.
        consumer.stop()
        assert consumer.join(15), (
            "two waits for the lock of five seconds each: to record, to give the ticket back"
        )
        eventually(
            lambda: publisher.count("bookstore.reader") == 1, because="the broker takes back what was in hand"
        )
        blocker.rollback()
    assert recorded() == [(1, 1, 1)]


def _unacknowledged(engine: Engine) -> bool:
    """Whether somebody waits for the recorder row, and so has an event in hand."""
    statement = "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%recorder%FOR UPDATE%'"
    with engine.connect() as connection:
        waiting = connection.execute(text(statement)).scalar()
        connection.rollback()
    return bool(waiting and waiting > 1)


def test_a_batch_whose_transaction_fails_stays_in_hand_and_is_recorded_when_it_can_be(
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    reader_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher.publish(make_event(1, 1))
    eventually(recorded)
    with reader_engine.connect() as blocker:
        blocker.execute(text("SELECT * FROM recorder WHERE id = 1 FOR UPDATE"))
        publisher.publish(make_event(1, 2), make_event(1, 3))
        postponed = "record postponed"
        eventually(lambda: [each for each in caplog.records if each.getMessage() == postponed], within=15)
        assert publisher.count("bookstore.reader") == 0
        blocker.rollback()
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2), (3, 1, 3)])


def test_a_consumer_that_was_superseded_records_nothing_more(
    reader_engine: Engine, recorded: Recorded
) -> None:
    generations, recorder = Generations(reader_engine), Recorder(reader_engine)
    generations.prepare()
    generations.prepare()
    assert generations.register("a" * 32, replacing=None)
    recorder.record([understand(make_event(1, 1))], {"a" * 32})
    assert generations.register("b" * 32, replacing={"a" * 32})
    assert not generations.register("c" * 32, replacing={"a" * 32})
    with pytest.raises(SupersededError):
        recorder.record([understand(make_event(1, 2))], {"a" * 32})
    recorder.record([understand(make_event(1, 2))], {"b" * 32})
    assert recorded() == [(1, 1, 1), (2, 1, 2)]


def test_the_next_consumer_goes_on_where_the_first_one_ended(
    fresh_broker: BrokerSettings,
    cache_settings: CacheSettings,
    reader_engine: Engine,
    publisher: Publisher,
    recorded: Recorded,
) -> None:
    with running_consumer(fresh_broker, cache_settings, reader_engine, "first"):
        publisher.publish(*(make_event(1, version) for version in range(1, 301)))
        with running_consumer(fresh_broker, cache_settings, reader_engine, "second") as second:
            eventually(recorded)
            assert second.connected
            publisher.publish(*(make_event(2, version) for version in range(1, 301)))
    with running_consumer(fresh_broker, cache_settings, reader_engine, "third"):
        publisher.publish(make_event(3, 1))
        eventually(lambda: len(recorded()) == 601)
    found = recorded()
    assert [position for position, _, _ in found] == list(range(1, 602))
    for book_id in (1, 2):
        assert [version for _, book, version in found if book == book_id] == list(range(1, 301))


def test_after_a_failure_that_nobody_foresaw_one_is_in_hand_at_a_time_until_a_new_one_comes(
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    caplog.set_level(logging.INFO)
    prefetches: list[int] = []
    qos, record = Channel.basic_qos, Recorder.record
    failures = iter([RuntimeError("unforeseen")])

    def note(channel: Channel, size: int, count: int, a_global: bool) -> None:  # noqa: FBT001  as in py-amqp
        prefetches.append(count)
        qos(channel, size, count, a_global)

    def fail_once(recorder: Recorder, batch: Sequence[Arrival], ours: Collection[str]) -> object:
        for failure in failures:
            raise failure
        return record(recorder, batch, ours)

    monkeypatch.setattr(Channel, "basic_qos", note)
    monkeypatch.setattr(Recorder, "record", fail_once)
    publisher.publish(make_event(1, 1))
    eventually(lambda: recorded() == [(1, 1, 1)])
    assert caplog.messages.count("consumer failed") == 1
    assert prefetches == [1]
    publisher.publish(make_event(1, 2))
    eventually(lambda: len(prefetches) == 2)
    assert prefetches[1] > 1
    assert recorded() == [(1, 1, 1), (2, 1, 2)]


def test_a_database_that_is_in_the_way_while_the_consumer_connects_is_no_failure_of_an_event(
    consumer: Consumer,
    publisher: Publisher,
    recorded: Recorded,
    reader_engine: Engine,
    caplog: pytest.LogCaptureFixture,
) -> None:
    publisher.publish(make_event(1, 1))
    eventually(recorded)
    caplog.set_level(logging.INFO)
    with reader_engine.connect() as blocker:
        blocker.execute(text("SELECT * FROM recorder WHERE id = 1 FOR UPDATE"))
        publisher.connection.default_channel.queue_delete("bookstore.reader")
        eventually(lambda: "database not reached" in caplog.messages)
        blocker.rollback()
    eventually(lambda: "consumer connected" in caplog.messages)
    assert "consumer failed" not in caplog.messages


def test_the_consumer_comes_back_when_its_queue_was_deleted(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    publisher.publish(make_event(1, 1))
    eventually(recorded)
    caplog.set_level(logging.INFO)
    publisher.connection.default_channel.queue_delete("bookstore.reader")
    eventually(lambda: "consumer connected" in caplog.messages)
    publisher.publish(make_event(1, 2))
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2)])
