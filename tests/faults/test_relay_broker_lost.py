"""A relay whose broker dies, loses the exchange, or is far away, while every book changes without pause."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

from pydantic import SecretStr
from sqlalchemy import Engine, make_url, text

from common.broker import EVENTS
from common.settings import BrokerSettings, DatabaseSettings
from devstack.stack import Stack
from outbox_relay import holds
from outbox_relay.metrics import RelayMetrics
from tests.connections import quiet_connection
from tests.faults.proxy import Line, proxy_to
from tests.fixtures.broker import broker_control
from tests.fixtures.relay import (
    Relaying,
    Tap,
    await_more,
    backlog,
    running_relay,
    versions_by_first_appearance,
    write,
    writing,
)
from tests.waiting import eventually

BOOKS = range(1, 41)
UNWANTED = 1000


def sent(engine: Engine) -> int:
    """How many events have left the outbox."""
    with engine.connect() as connection:
        return int(connection.execute(text("SELECT COUNT(*) FROM sent_event")).scalar_one())


def await_sending(engine: Engine) -> None:
    """Until some more are sent."""
    until = sent(engine) + 200
    eventually(lambda: sent(engine) >= until)


def connected_times(metrics: RelayMetrics, at_least: int) -> bool:
    return (metrics.registry.get_sample_value("relay_connects_total") or 0) >= at_least


def test_broker_that_is_restarted_and_then_killed_gets_every_event_and_each_books_in_order(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    stack: Stack,
    fresh_broker: BrokerSettings,
) -> None:
    """In this order, for RabbitMQ 3.10 may elect no leader for a queue made a second before the kill."""
    tapped = tap()
    with relaying() as (relay, metrics):
        with writing(relay_engine, BOOKS) as versions:
            for number in (signal.SIGTERM, signal.SIGKILL):
                await_sending(relay_engine)
                stack.broker.processes[-1].signal(number)
                eventually(lambda: not relay.connected)
                stack.broker.stop()
                stack.broker.start()
            await_sending(relay_engine)
        eventually(lambda: backlog(relay_engine) == 0)
    assert connected_times(metrics, 3)
    with quiet_connection(fresh_broker, "tap") as tapped.connection:
        assert versions_by_first_appearance(tapped) == dict.fromkeys(BOOKS, versions)


def test_connection_that_the_operator_closes_is_opened_again_and_no_event_is_lost_or_out_of_order(
    relay_engine: Engine,
    relaying: Relaying,
    tap: Callable[[], Tap],
    stack: Stack,
    fresh_broker: BrokerSettings,
) -> None:
    tapped = tap()
    with relaying() as (_, metrics):
        with writing(relay_engine, BOOKS) as versions:
            for connects in (2, 3):
                await_sending(relay_engine)
                broker_control(stack, "close_all_connections", "by hand")
                eventually(partial(connected_times, metrics, connects))
            await_sending(relay_engine)
        eventually(lambda: backlog(relay_engine) == 0)
    with quiet_connection(fresh_broker, "tap") as tapped.connection:
        assert versions_by_first_appearance(tapped) == dict.fromkeys(BOOKS, versions)


def test_exchange_that_is_deleted_is_put_back_and_no_event_is_lost_or_out_of_order(
    relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap], fresh_broker: BrokerSettings
) -> None:
    tapped = tap()
    with relaying() as (relay, metrics):
        with writing(relay_engine, BOOKS) as versions:
            await_sending(relay_engine)
            with quiet_connection(fresh_broker, "operator") as connection:
                connection.default_channel.exchange_delete(EVENTS.name)
            connects = partial(metrics.registry.get_sample_value, "relay_connects_total")
            eventually(lambda: connects() == 2 and relay.connected, because="it has put the exchange back")
            await_more(versions, 10)
            tap()
            await_sending(relay_engine)
        eventually(lambda: backlog(relay_engine) == 0)
    assert versions_by_first_appearance(tapped) == dict.fromkeys(BOOKS, versions)


@contextmanager
def far_away(stack: Stack, broker: BrokerSettings) -> Iterator[BrokerSettings]:
    """The broker, whose answers are a tenth of a second late."""
    with proxy_to(stack.broker.port) as line:
        line.set(Line(delay_seconds=0.05))
        url = make_url(broker.broker_url.get_secret_value()).set(port=line.port)
        yield BrokerSettings(broker_url=SecretStr(url.render_as_string(hide_password=False)))


def test_book_that_was_held_back_is_tried_though_many_others_are_always_on_the_wire(
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    fresh_broker: BrokerSettings,
    tap: Callable[[], Tap],
    stack: Stack,
) -> None:
    channel = tap().connection.default_channel
    channel.queue_unbind("tap", EVENTS.name, "book.#")
    channel.queue_bind("tap", EVENTS.name, "book.updated.v1")
    with (
        far_away(stack, fresh_broker) as broker,
        running_relay(fresh_settings, broker),
        writing(relay_engine, BOOKS, pause=0.05) as versions,
    ):
        await_more(versions, 10)
        write(relay_engine, [(UNWANTED, 1)], what="created")
        eventually(lambda: holds.list_held(relay_engine), because="others get through, this one does not")
        channel.queue_bind("tap", EVENTS.name, "book.created.v1")
        eventually(lambda: holds.list_held(relay_engine) == [], because="it is tried again")
