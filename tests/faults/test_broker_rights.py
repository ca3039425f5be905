"""The operator takes the broker's rights from a service that runs, and gives them back."""

from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from common.settings import CacheSettings, DatabaseSettings
from tests.fixtures.broker import BrokerUser
from tests.fixtures.reader import Publisher, make_event, running_consumer
from tests.fixtures.relay import Tap, backlog, logged, running_relay, versions_by_first_appearance, write
from tests.waiting import eventually

# What is done, and what the broker then says to whoever connects.
TAKEN = [(BrokerUser.take_all_rights, "NOT_ALLOWED"), (BrokerUser.leave_only_reading, "ACCESS_REFUSED")]


@pytest.mark.parametrize(("take", "answer"), TAKEN)
def test_relay_without_rights_keeps_its_events_and_sends_them_in_order_when_it_has_them_again(  # noqa: PLR0913, PLR0917
    relay_engine: Engine,
    fresh_settings: DatabaseSettings,
    broker_user: BrokerUser,
    tap: Callable[[], Tap],
    caplog: pytest.LogCaptureFixture,
    take: Callable[[BrokerUser], None],
    answer: str,
) -> None:
    tapped = tap()
    with running_relay(fresh_settings, broker_user.settings) as (relay, metrics):
        write(relay_engine, [(1, 1), (2, 1)])
        eventually(lambda: backlog(relay_engine) == 0)
        take(broker_user)
        write(relay_engine, [(1, 2), (2, 2), (1, 3)])
        eventually(lambda: logged(caplog, answer))
        assert not relay.connected
        assert backlog(relay_engine) == 3
        broker_user.give_back_all_rights()
        eventually(lambda: relay.connected)
        write(relay_engine, [(2, 3)])
        eventually(lambda: backlog(relay_engine) == 0)
        assert metrics.registry.get_sample_value("relay_connects_total") == 2
    assert versions_by_first_appearance(tapped) == {1: [1, 2, 3], 2: [1, 2, 3]}


@pytest.mark.parametrize(("take", "answer"), TAKEN)
def test_reader_without_rights_records_what_came_meanwhile_when_it_has_them_again(  # noqa: PLR0913, PLR0917
    broker_user: BrokerUser,
    cache_settings: CacheSettings,
    reader_engine: Engine,
    publisher: Publisher,
    recorded: Callable[[], list[tuple[int, int, int]]],
    caplog: pytest.LogCaptureFixture,
    take: Callable[[BrokerUser], None],
    answer: str,
) -> None:
    with running_consumer(broker_user.settings, cache_settings, reader_engine) as consumer:
        publisher.publish(make_event(1, 1))
        eventually(lambda: recorded() == [(1, 1, 1)])
        take(broker_user)
        publisher.publish(make_event(1, 2), make_event(2, 1))
        eventually(lambda: logged(caplog, answer))
        assert not consumer.connected
        assert recorded() == [(1, 1, 1)]
        broker_user.give_back_all_rights()
        eventually(lambda: consumer.connected)
        publisher.publish(make_event(1, 3))
        eventually(lambda: recorded() == [(1, 1, 1), (2, 1, 2), (3, 2, 1), (4, 1, 3)])
