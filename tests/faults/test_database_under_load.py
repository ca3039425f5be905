"""The database fails under clients, relay and reader at once, in every way; then all is as promised."""

import contextlib
import signal
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager

import pytest
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from common.settings import BrokerSettings
from devstack.stack import Stack
from tests.faults.trial import Trial
from tests.fixtures.trial import running_trial
from tests.fixtures.trouble import frozen_database, setting
from tests.waiting import eventually

SERVICES = ("api", "outbox_relay", "grpc_reader")
OTHERS = text(
    "SELECT id FROM information_schema.processlist"
    " WHERE db = DATABASE() AND user <> SUBSTRING_INDEX(USER(), '@', 1)"
)
RECOVERY_SECONDS = 10.0


@pytest.fixture(scope="module")
def trial(
    stack: Stack, limited_url: str, module_broker: BrokerSettings, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Trial]:
    """As in the other files, with a user whom a read-only server does not let write."""
    with running_trial(stack, limited_url, tmp_path_factory.mktemp("database")) as found:
        yield found


@contextmanager
def killed(stack: Stack, admin: Engine) -> Iterator[None]:
    admin.dispose()
    stack.database.processes[-1].signal(signal.SIGKILL)
    try:
        yield
    finally:
        stack.database.stop()
        stack.database.start()


@contextmanager
def frozen(stack: Stack, _: Engine) -> Iterator[None]:
    with frozen_database(stack):
        yield


@contextmanager
def read_only(_: Stack, admin: Engine) -> Iterator[None]:
    with setting(admin, "read_only", 1):
        yield


@contextmanager
def out_of_connections(_: Stack, admin: Engine) -> Iterator[None]:
    """Those that there are die, and few can be made."""
    with admin.connect() as connection, setting(admin, "max_connections", 10):
        victims = connection.execute(OTHERS).scalars().all()
        assert victims, "nobody was connected"
        for victim in victims:
            with contextlib.suppress(OperationalError):  # it has ended by itself
                connection.exec_driver_sql(f"KILL {victim}")
        yield


@pytest.mark.parametrize("failing", [killed, frozen, read_only, out_of_connections])
def test_database_that_fails_under_load_costs_time_and_no_promise(
    trial: Trial,
    stack: Stack,
    admin: Engine,
    failing: Callable[[Stack, Engine], AbstractContextManager[None]],
) -> None:
    unharmed = failing is out_of_connections  # new ones may be there before anybody's patience ends
    with trial.under_load() as workload:
        await_load(trial)
        with failing(stack, admin):
            workload.go_on(6)
        trial.engine.dispose()
        eventually(lambda: all(map(trial.system.is_ready, SERVICES)), within=RECOVERY_SECONDS)
        await_load(trial)
    refused = [change for change in trial.journal.read()[0] if change.outcome != "acknowledged"]
    assert refused or unharmed, "the clients did not notice"
    trial.settle()
    assert trial.violations() == []


def await_load(trial: Trial) -> None:
    """Return after some changes."""
    until = trial.journal.changes + 30
    eventually(lambda: trial.journal.changes >= until, because="clients go on")
