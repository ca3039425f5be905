"""What cannot be recorded: how it dies, and how operators see it and bring it back."""

import contextlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from amqp.exceptions import NotFound
from sqlalchemy import Engine, text

from common.broker import EVENTS
from common.settings import BrokerSettings, CacheSettings
from devstack.stack import ROOT
from grpc_reader import burial
from grpc_reader.arrival import understand
from grpc_reader.consumer import Consumer
from grpc_reader.topology import DEAD_LETTERS, DEAD_QUEUE, QUEUE, declare
from tests.connections import quiet_connection
from tests.fixtures.commands import assert_one_sentence
from tests.fixtures.dead_letters import Dead, objects
from tests.fixtures.reader import Publisher, make_event, running_consumer
from tests.fixtures.two_readers import ARMED
from tests.waiting import eventually

Recorded = Callable[[], list[tuple[int, int, int]]]
DEAD, LIVE = DEAD_QUEUE.name, QUEUE.name


def test_a_dead_letter_says_why_when_and_whence_and_is_stored_to_the_letter(
    consumer: Consumer, publisher: Publisher, dead: Dead
) -> None:
    body = make_event(1, 1, specversion="2.0", extra="ü 🐉")
    publisher.publish(body, message_id="the-id", headers={"x-tenant": "a"}, expiration=3600)
    eventually(lambda: publisher.count(DEAD) == 1)
    [found] = objects(dead("show", "the-id", "--json"))
    assert found["reason"].startswith("specversion")
    assert (found["exchange"], found["routing_key"]) == (EVENTS.name, "book.created.v1")
    age = datetime.now(UTC) - datetime.fromisoformat(found["died_at"])
    assert timedelta() <= age < timedelta(seconds=60)
    assert found["body"] == body
    # The broker takes back what the command had in hand a moment after its end.
    message = eventually(lambda: publisher.connection.default_channel.basic_get(DEAD))
    assert message.properties["delivery_mode"] == 2
    assert message.properties["application_headers"]["x-tenant"] == "a"
    assert "expiration" not in message.properties, "a dead letter does not expire"
    publisher.connection.default_channel.basic_reject(message.delivery_tag, requeue=True)


def test_hundreds_of_dead_letters_in_a_row_stop_nothing(
    consumer: Consumer, publisher: Publisher, recorded: Recorded
) -> None:
    """More than the consumer may have in hand, each sent from between the frames that bring the next."""
    publisher.publish(make_event(1, 1), *(f"no event {number}" for number in range(1200)), make_event(1, 2))
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2)])
    eventually(lambda: publisher.count(DEAD) == 1200)
    eventually(lambda: publisher.count(LIVE) == 0)


def test_a_dead_letter_stays_in_hand_until_the_dead_queue_has_it(
    consumer: Consumer, publisher: Publisher, recorded: Recorded
) -> None:
    """Its queue has gone: the broker returns the letter, the reader makes the queue anew and tries again."""
    publisher.connection.default_channel.queue_delete(DEAD)
    publisher.publish("no event", make_event(1, 1))
    eventually(lambda: recorded() == [(1, 1, 1)])

    def buried() -> bool:
        with contextlib.suppress(NotFound):
            return publisher.count(DEAD) == 1
        return False

    eventually(buried)


def test_a_dead_letter_that_is_refused_holds_nobody_back_and_is_not_acknowledged_with_the_others(
    fresh_broker: BrokerSettings,
    cache_settings: CacheSettings,
    reader_engine: Engine,
    publisher: Publisher,
    recorded: Recorded,
) -> None:
    channel = publisher.connection.default_channel
    DEAD_LETTERS(channel).declare()
    full = {"x-max-length": 1, "x-overflow": "reject-publish"}
    channel.queue_declare(DEAD, durable=True, auto_delete=False, arguments=full)
    publisher.connection.Producer(channel).publish("in the way", routing_key=DEAD)
    with running_consumer(fresh_broker, cache_settings, reader_engine):
        publisher.publish("no event", make_event(1, 1), make_event(1, 2))
        eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2)])
        publisher.publish(make_event(1, 3))
        eventually(lambda: len(recorded()) == 3)
    eventually(lambda: publisher.count(LIVE) == 1, because="given back by who could not bury it")
    channel.queue_purge(DEAD)
    with running_consumer(fresh_broker, cache_settings, reader_engine):
        eventually(lambda: publisher.count(DEAD) == 1)
    assert publisher.count(LIVE) == 0


def test_an_event_that_the_tables_refuse_dies_with_that_reason(
    consumer: Consumer, publisher: Publisher, dead: Dead
) -> None:
    first = make_event(1, 1)
    publisher.publish(first, make_event(2, 1, id=str(understand(first).event.id)), message_id="twin")
    eventually(lambda: publisher.count(DEAD) == 1)
    [found] = objects(dead("list", "--json"))
    assert (found["id"], found["reason"]) == ("twin", "the tables refuse it: IntegrityError")


def test_listing_and_showing_leave_the_queue_as_it_is(
    consumer: Consumer, publisher: Publisher, dead: Dead
) -> None:
    publisher.publish("first", "second", message_id="one")
    publisher.publish(b"\xff\x1b[2J", message_id="two\x1b[2J")
    publisher.publish("nameless")
    eventually(lambda: publisher.count(DEAD) == 4)
    lines = dead("list").stdout.splitlines()
    assert [line.split("  ")[0] for line in lines[:3]] == ["one", "one", "two\\x1b[2J"]
    assert "book.created.v1" in lines[0]
    assert lines[2].endswith("not UTF-8")
    assert dead("list").stdout.splitlines() == lines
    assert "\x1b" not in dead("show", "two\x1b[2J").stdout
    assert [line for line in dead("show", "one").stdout.splitlines() if line.startswith("body")] == [
        "body:        first",
        "body:        second",
    ]
    assert objects(dead("show", "two\x1b[2J", "--json"))[0]["body_base64"] == "/xtbMko="
    assert dead("show", lines[3].split("  ")[0]).returncode == 0, (
        "one without a message id has one all the same"
    )
    limited = dead("list", "--limit", "1").stdout.splitlines()
    assert limited == [lines[0], "… and 3 more: --limit 4 shows them all"]
    eventually(lambda: publisher.count(DEAD) == 4)


# Whoever may publish may write what they like where the reader and the broker write of a death.
FOREIGN: list[tuple[dict[str, Any], str]] = [
    ({burial.REASON: "\x1b[2J\nno"}, "-    \\x1b[2J\\nno"),
    ({burial.REASON: ["a", {"b": 1}]}, "-    ['a', {'b': 1}]"),
    ({burial.REASON: 7, burial.TIME: "yesterday"}, "-    7"),
    ({burial.TIME: 12, burial.ROUTING_KEY: {"a": "\x9b"}}, "-  {'a': '\\x9b'}  broker: unknown"),
    ({burial.TIME: "2026-01-02T03:04:05"}, "2026-01-02 03:04:05    broker: unknown"),
    ({"x-death": "none"}, "-    broker: unknown"),
    ({"x-death": ["none"]}, "-    broker: unknown"),
    ({"x-death": [{"reason": 5, "time": "now", "routing-keys": 1}]}, "-    broker: 5"),
]


@pytest.mark.parametrize(("headers", "shown"), FOREIGN)
def test_foreign_headers_of_a_dead_letter_are_shown_and_obeyed_by_nobody(
    publisher: Publisher, dead: Dead, headers: dict[str, Any], shown: str
) -> None:
    channel = publisher.connection.default_channel
    declare(publisher.connection)
    publisher.connection.Producer(channel).publish("x", routing_key=DEAD, message_id="one", headers=headers)
    eventually(lambda: publisher.count(DEAD) == 1)
    listed = dead("list")
    assert (listed.returncode, listed.stdout, listed.stderr) == (0, f"one  {shown}\n", "")
    [facts] = objects(dead("list", "--json"))
    assert facts["id"] == "one"


def test_an_event_that_could_not_be_understood_is_redriven_closes_its_gap_and_releases_who_waits(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, dead: Dead, reader_engine: Engine
) -> None:
    """As after an update of the reader: the same letter is understood the second time."""
    publisher.publish(make_event(1, 1), make_event(1, 3), make_event(1, 4))
    eventually(lambda: recorded() == [(1, 1, 1)])
    eventually(lambda: publisher.count(LIVE) == 0)
    publisher.connection.Producer(publisher.connection.default_channel).publish(
        make_event(1, 2),
        exchange=DEAD_LETTERS.name,
        message_id="missing",
        headers={"x-bookstore-reason": "not understood then"},
    )
    eventually(lambda: publisher.count(DEAD) == 1)
    done = dead("redrive", "missing")
    assert done.stdout.splitlines() == ["redriven missing", "redriven in all: 1"]
    eventually(lambda: recorded() == [(position, 1, position) for position in (1, 2, 3, 4)])
    with reader_engine.connect() as connection:
        assert connection.execute(text("SELECT COUNT(*) FROM waiting_event")).scalar() == 0
        connection.rollback()
    assert publisher.count(DEAD) == 0


def test_redriving_all_leaves_nothing_and_what_still_cannot_be_understood_comes_back_once(
    consumer: Consumer, publisher: Publisher, dead: Dead
) -> None:
    publisher.publish("no event", message_id="a")
    publisher.publish("no event", message_id="b")
    eventually(lambda: publisher.count(DEAD) == 2)
    assert objects(dead("redrive", "--all", "--json")) == [{"redriven": "a"}, {"redriven": "b"}]
    eventually(lambda: publisher.count(DEAD) == 2)
    assert [each["routing_key"] for each in objects(dead("list", "--json"))] == [LIVE, LIVE]


def test_what_the_broker_gave_up_by_itself_is_understood_and_comes_back(
    fresh_broker: BrokerSettings, publisher: Publisher, dead: Dead
) -> None:
    declare(publisher.connection)
    publisher.publish(make_event(1, 1), message_id="often")
    with quiet_connection(fresh_broker, "never content") as connection:
        channel = connection.channel()
        last: list[Any] = []

        def refuse(message: Any) -> None:  # noqa: ANN401  py-amqp has no types
            last[:] = [message]
            channel.basic_reject(message.delivery_tag, requeue=True)

        def drained() -> bool:
            with contextlib.suppress(TimeoutError):
                for _ in range(20):
                    connection.drain_events(timeout=0.1)
            return publisher.count(DEAD) == 1

        channel.basic_consume(LIVE, callback=refuse)
        eventually(drained)
        [found] = objects(dead("list", "--json"))
        assert (found["id"], found["reason"]) == ("often", "delivered too often, never acknowledged")
        assert (found["exchange"], found["routing_key"]) == (EVENTS.name, "book.created.v1")
        assert datetime.now(UTC) - datetime.fromisoformat(found["died_at"]) < timedelta(seconds=60)
        last.clear()
        objects(dead("redrive", "often", "--json"))
        eventually(drained)
    assert not [name for name in last[0].properties["application_headers"] if name.startswith("x-death")]


def test_each_error_is_one_sentence(publisher: Publisher, dead: Dead) -> None:
    assert_one_sentence(dead("list", BROKER_URL=""), 1, "BROKER_URL")
    assert_one_sentence(dead("list", BROKER_URL="amqp://a:secret@127.0.0.1:1//"), 1, "check BROKER_URL")
    assert_one_sentence(dead("list"), 1, "There is no queue bookstore.reader.dead yet")
    channel = publisher.connection.default_channel
    DEAD_QUEUE(channel).declare()
    assert_one_sentence(dead("show", "nobody"), 1, "No dead letter has the id nobody")
    publisher.connection.Producer(channel).publish("x", routing_key=DEAD, message_id="a")
    assert_one_sentence(dead("redrive", "a", "nobody"), 1, "There is no queue bookstore.reader")
    eventually(lambda: publisher.count(DEAD) == 1, because="what cannot be given to the reader stays")
    channel.queue_declare(LIVE, auto_delete=False)
    done = dead("redrive", "a", "nobody")
    assert_one_sentence(done, 1, "No dead letter has the id nobody")
    assert done.stdout.splitlines() == ["redriven a"]
    channel.queue_delete(LIVE)
    assert dead("redrive").returncode == 2
    assert dead("redrive", "a", "--all").returncode == 2
    assert json.loads(dead("list", "--json").stdout or "{}") == {}


def test_a_dead_queue_that_an_operator_has_made_otherwise_is_used_as_it_is(
    fresh_broker: BrokerSettings, cache_settings: CacheSettings, reader_engine: Engine, publisher: Publisher
) -> None:
    channel = publisher.connection.default_channel
    channel.queue_declare(DEAD, durable=True, auto_delete=False)
    with running_consumer(fresh_broker, cache_settings, reader_engine):
        publisher.publish("no event")
        eventually(lambda: publisher.count(DEAD) == 1)


def test_a_message_that_breaks_the_client_dies_alone(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, dead: Dead
) -> None:
    """Its id is not UTF-8: each delivery ends the connection, until the broker gives it up."""
    publisher.publish(make_event(1, 1))
    eventually(recorded)
    publisher.publish("no event", message_id=b"\xff")
    publisher.publish(*(make_event(1, version) for version in range(2, 52)))
    eventually(lambda: len(recorded()) == 51, within=90)
    eventually(lambda: publisher.count(DEAD) == 1)
    assert_one_sentence(dead("list"), 1, "not UTF-8")


def test_a_redrive_that_is_killed_before_its_end_leaves_the_letter_in_both_queues_and_the_record_has_it_once(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, dead: Dead, fresh_broker: BrokerSettings
) -> None:
    letter = make_event(1, 1)
    publisher.connection.Producer(publisher.connection.default_channel).publish(
        letter, exchange=DEAD_LETTERS.name, message_id="again"
    )
    eventually(lambda: publisher.count(DEAD) == 1)
    place = {"TEST_PLACE": "dead.after-redrive", "TEST_TIMES": "1", "TEST_SIGNAL": str(int(signal.SIGKILL))}
    url = {"BROKER_URL": fresh_broker.broker_url.get_secret_value()}
    command = [sys.executable, "-c", ARMED, "dead", "redrive", "--all"]
    killed = subprocess.run(command, cwd=ROOT, env={**os.environ, **place, **url}, check=False, timeout=60)
    assert killed.returncode == -signal.SIGKILL
    eventually(lambda: recorded() == [(1, 1, 1)])
    eventually(lambda: publisher.count(DEAD) == 1)
    assert dead("redrive", "again").returncode == 0
    publisher.publish(make_event(1, 2))
    eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2)])
