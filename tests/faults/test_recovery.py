"""How soon all is well after a server was killed, under steady load (docs/reliability.md, Figures)."""

import signal
import sys
import time
from collections.abc import Callable
from datetime import UTC
from functools import partial

import pytest
from kombu import Connection
from sqlalchemy import text

from common.database import transaction
from devstack.servers import Server
from devstack.stack import Stack
from tests.faults.steady_load import SteadyLoad, rate, seconds_until, steady
from tests.faults.trial import Trial
from tests.waiting import eventually

# Each is under load for forty seconds, and the first one starts all servers.
pytestmark = [pytest.mark.long, pytest.mark.timeout(240)]
SERVICES = ("api", "outbox_relay", "grpc_reader")
RECORDED = text("SELECT record_time FROM delivered_event ORDER BY position")
BEFORE_SECONDS = 10.0
# By then every pause between two attempts has grown to its longest.
AWAY_SECONDS = 10.0
WINDOW_SECONDS = 1.0
RECOVERY_SECONDS = 10.0


def recorded(trial: Trial) -> list[float]:
    """When each event was recorded, in seconds since the epoch."""
    with transaction(trial.engine) as connection:
        return [found.replace(tzinfo=UTC).timestamp() for found in connection.execute(RECORDED).scalars()]


def kill_and_start_again(server: Server, load: SteadyLoad) -> float:
    """When it answered again, in seconds since the epoch."""
    for process in server.processes:
        process.signal(signal.SIGKILL)
    load.go_on(AWAY_SECONDS)
    server.stop()
    server.start()
    return time.time()


@pytest.mark.parametrize(
    ("name", "stands_still"),
    [("database", {"acknowledged", "recorded"}), ("broker", {"recorded"}), ("cache", set())],
)
def test_ten_seconds_after_a_killed_server_is_back_all_is_ready_and_the_rate_as_before(  # noqa: PLR0913, PLR0917
    trial: Trial,
    stack: Stack,
    name: str,
    stands_still: set[str],
    record_property: Callable[[str, object], None],
    capsys: pytest.CaptureFixture[str],
) -> None:
    server: Server = getattr(stack, name)
    with steady(SteadyLoad(trial.new_client)) as load:
        load.go_on(BEFORE_SECONDS)
        killed = time.time()
        back = kill_and_start_again(server, load)
        for service in SERVICES:
            eventually(partial(trial.system.is_ready, service), within=RECOVERY_SECONDS, because=service)
        ready_seconds = time.time() - back
        load.go_on(2 * RECOVERY_SECONDS - ready_seconds)
    trial.engine.dispose()
    # The tap's connection has ended with the broker.
    with Connection(trial.system.environment["BROKER_URL"], heartbeat=0) as trial.tap.connection:
        trial.settle()
        assert trial.violations() == []
    figures = {"ready": ready_seconds}
    for what, times in {"acknowledged": sorted(load.acknowledged), "recorded": recorded(trial)}.items():
        half = BEFORE_SECONDS / 2
        wanted = 0.9 * rate(times, killed - half, half)
        assert wanted > 20, "that was no load"
        assert (rate(times, killed + half, half) < wanted / 2) == (what in stands_still)
        figures[what] = seconds_until(times, wanted, back, WINDOW_SECONDS)
        assert rate(times, back + RECOVERY_SECONDS, half) >= wanted, f"{what} does not stay as before"
    for what, seconds in figures.items():
        record_property(f"{name} {what} seconds", f"{seconds:.1f}")
    with capsys.disabled():
        seen = ", ".join(f"{what} {seconds:.1f} s" for what, seconds in figures.items())
        sys.stdout.write(f"\n{name}: {seen}\n")
    assert max(figures.values()) <= RECOVERY_SECONDS
