"""A consumer whose broker falls silent, dies, or is changed by an operator, each time for real."""

import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest
from amqp.exceptions import AMQPError
from sqlalchemy import Engine

from common.broker import EVENTS
from common.settings import BrokerSettings, CacheSettings
from devstack.stack import Stack
from grpc_reader.consumer import Consumer
from tests.connections import quiet_connection
from tests.fixtures.broker import broker_control
from tests.fixtures.reader import Publisher, make_event, running_consumer
from tests.fixtures.relay import logged
from tests.waiting import eventually

Recorded = Callable[[], list[tuple[int, int, int]]]
ONE = [(1, 1, 1)]
TWO = [(1, 1, 1), (2, 1, 2)]


@contextmanager
def frozen_broker(stack: Stack) -> Iterator[None]:
    node = stack.broker.processes[-1]
    node.signal(signal.SIGSTOP)
    try:
        yield
    finally:
        node.signal(signal.SIGCONT)


def publish_afresh(broker: BrokerSettings, body: str) -> None:
    with quiet_connection(broker, "publisher") as connection:
        EVENTS(connection.default_channel).declare()
        Publisher(connection).publish(body)


def test_an_idle_consumer_notices_a_frozen_broker_within_15_seconds_and_comes_back(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, stack: Stack
) -> None:
    publisher.publish(make_event(1, 1))
    eventually(lambda: recorded() == ONE)
    with frozen_broker(stack):
        eventually(lambda: not consumer.connected, within=15)
    eventually(lambda: consumer.connected, within=20)
    publisher.publish(make_event(1, 2))
    eventually(lambda: recorded() == TWO)


def test_a_consumer_that_is_stopped_while_the_broker_is_frozen_ends_within_its_grace_period(
    fresh_broker: BrokerSettings, cache_settings: CacheSettings, reader_engine: Engine, stack: Stack
) -> None:
    with running_consumer(fresh_broker, cache_settings, reader_engine) as consumer, frozen_broker(stack):
        consumer.stop()
        assert consumer.join(6)


def test_a_broker_that_is_restarted_and_then_killed_is_waited_for(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, stack: Stack, fresh_broker: BrokerSettings
) -> None:
    """In this order, for RabbitMQ 3.10 may elect no leader for a queue made a second before the kill."""
    publisher.publish(make_event(1, 1), make_event(1, 2))
    eventually(lambda: recorded() == TWO)
    stack.broker.stop()
    eventually(lambda: not consumer.connected)
    stack.broker.start()
    eventually(lambda: consumer.connected, within=20)
    publish_afresh(fresh_broker, make_event(1, 3))
    eventually(lambda: recorded()[2:] == [(3, 1, 3)])
    stack.broker.processes[-1].signal(signal.SIGKILL)
    eventually(lambda: not consumer.connected)
    stack.broker.stop()
    stack.broker.start()
    eventually(lambda: consumer.connected, within=20)
    publish_afresh(fresh_broker, make_event(1, 4))
    eventually(lambda: recorded()[3:] == [(4, 1, 4)])


def test_a_connection_that_the_operator_closes_is_opened_again(
    consumer: Consumer,
    recorded: Recorded,
    stack: Stack,
    fresh_broker: BrokerSettings,
    caplog: pytest.LogCaptureFixture,
) -> None:
    broker_control(stack, "close_all_connections", "by hand")
    eventually(lambda: logged(caplog, "by hand"))
    eventually(lambda: consumer.connected)
    publish_afresh(fresh_broker, make_event(1, 1))
    eventually(lambda: recorded() == ONE)


def test_a_broker_short_of_disk_delivers_what_it_has_and_takes_dead_letters_when_it_has_room(  # noqa: PLR0913, PLR0917
    fresh_broker: BrokerSettings,
    cache_settings: CacheSettings,
    reader_engine: Engine,
    publisher: Publisher,
    recorded: Recorded,
    stack: Stack,
) -> None:
    """It hears nothing from who has published, not even an acknowledgement, until the alarm is over."""
    with running_consumer(fresh_broker, cache_settings, reader_engine):
        pass  # now there is a queue
    publisher.publish(make_event(1, 1), "no event", make_event(1, 2))
    broker_control(stack, "set_disk_free_limit", "1000000GB")
    try:
        with running_consumer(fresh_broker, cache_settings, reader_engine) as consumer:
            eventually(lambda: recorded() == TWO)
            assert publisher.count("bookstore.reader.dead") == 0
            broker_control(stack, "set_disk_free_limit", "50MB")
            eventually(lambda: publisher.count("bookstore.reader.dead") == 1)
            publisher.publish(make_event(1, 3))
            eventually(lambda: recorded() == [*TWO, (3, 1, 3)])
            assert consumer.connected
    finally:
        broker_control(stack, "set_disk_free_limit", "50MB")
    assert publisher.count("bookstore.reader") == 0, "all was acknowledged"


def test_a_queue_that_is_made_anew_with_other_properties_is_refused_until_it_is_gone(
    consumer: Consumer, publisher: Publisher, recorded: Recorded, caplog: pytest.LogCaptureFixture
) -> None:
    """A classic queue has neither a single active consumer nor an order that survives a failure."""
    channel = publisher.connection.default_channel

    def replace_queue() -> bool:
        channel.queue_delete("bookstore.reader")
        try:  # the consumer is quick: it may have made the right one before
            channel.queue_declare("bookstore.reader", durable=True, auto_delete=False)
        except AMQPError:
            return False
        return True

    eventually(replace_queue)
    refused = "PRECONDITION_FAILED"
    eventually(lambda: [each for each in caplog.records if refused in str(vars(each).get("error"))])
    assert not consumer.connected
    channel.queue_delete("bookstore.reader")
    eventually(lambda: consumer.connected)
    publisher.publish(make_event(1, 1))
    eventually(lambda: recorded() == ONE)


def test_an_exchange_or_a_binding_that_is_removed_is_put_back(
    consumer: Consumer, publisher: Publisher, recorded: Recorded
) -> None:
    """Nobody tells a consumer that nothing leads to its queue any more; the relay would find no route."""
    channel = publisher.connection.default_channel
    first, second = make_event(1, 1), make_event(1, 2)

    def arrives(body: str, count: int) -> bool:
        EVENTS(channel).declare()  # as the relay does when its exchange has gone
        publisher.publish(body)
        return len(recorded()) == count

    channel.exchange_delete(EVENTS.name)
    eventually(lambda: arrives(first, 1))
    channel.queue_unbind("bookstore.reader", EVENTS.name, "book.#")
    eventually(lambda: arrives(second, 2))
    channel.exchange_delete("bookstore.reader.dlx")
    eventually(lambda: _exists(publisher, "bookstore.reader.dlx"))
    publisher.publish("no event")
    eventually(lambda: publisher.count("bookstore.reader.dead") == 1)


def _exists(publisher: Publisher, exchange: str) -> bool:
    try:
        publisher.connection.default_channel.exchange_declare(exchange, "fanout", passive=True)
    except AMQPError:
        return False
    return True
