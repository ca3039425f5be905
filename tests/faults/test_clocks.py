"""Wall clocks that jump by hours and days while leases are held and events flow."""

import json
import subprocess
import sys
import time
from collections.abc import Callable

import pytest
from sqlalchemy import Engine, text

from outbox_relay import history
from tests.fixtures.clocks import Clock
from tests.fixtures.relay import Tap, await_more, backlog, versions_by_first_appearance, writing
from tests.fixtures.relays import RunningRelay, shares
from tests.waiting import eventually

BOOKS = range(1, 21)
JUMPS = ("+5h", "-7h", "+40d", "-400d")
TELL = (
    "import json, sys, threading, time\n"
    "for _ in sys.stdin:\n"
    "    begun = time.monotonic()\n"
    "    threading.Event().wait(0.05)\n"
    "    print(json.dumps([time.time(), begun, time.monotonic() - begun]), flush=True)\n"
)
HAND_OVER = (
    "import socket, threading, time\n"
    "ours, theirs = socket.socketpair()\n"
    "def spin():\n"
    "    while True: sum(range(1000))\n"
    "def echo():\n"
    "    while True: theirs.sendall(theirs.recv(1))\n"
    "for work in (spin, echo): threading.Thread(target=work, daemon=True).start()\n"
    "begun, count = time.perf_counter(), 0\n"
    "while (seconds := time.perf_counter() - begun) < 1:\n"
    "    ours.sendall(b'.')\n"
    "    ours.recv(1)\n"
    "    count += 1\n"
    "print(count / seconds, flush=True)\n"
)


def owners(engine: Engine) -> dict[int, str]:
    """Which relay has which shard."""
    with engine.connect() as connection:
        rows = connection.execute(text("SELECT shard, owner FROM shard_lease")).all()
    return {row[0]: row[1] for row in rows}


def test_clock_jumps_at_run_time_and_leaves_the_monotonic_one_alone(clock: Clock) -> None:
    command = [sys.executable, "-c", TELL]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=clock.environment
    ) as child:
        assert child.stdin is not None
        assert child.stdout is not None
        for offset, seconds in (("+0", 0), ("+5h", 18_000), ("-7h", -25_200), ("+0", 0)):
            clock.jump(offset)
            child.stdin.write("\n")
            child.stdin.flush()
            wall, monotonic, waited = json.loads(child.stdout.readline())
            assert wall - time.time() == pytest.approx(seconds, abs=5)
            assert monotonic == pytest.approx(time.monotonic(), abs=5)
            assert 0.04 < waited < 5
        child.stdin.close()


def test_threads_of_a_process_whose_clock_is_moved_take_turns_as_quickly_as_others(clock: Clock) -> None:
    def rate(environment: dict[str, str]) -> float:
        command = [sys.executable, "-c", HAND_OVER]
        done = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        return float(done.stdout)

    ratios = [rate(clock.environment) / rate({}) for _ in range(3)]
    assert max(ratios) > 0.4, "a tenth with the remedy for an old glibc"


def test_relay_whose_clock_jumps_keeps_its_share_and_every_books_order(
    relay_engine: Engine, start_relay: Callable[..., RunningRelay], tap: Callable[[], Tap], clock: Clock
) -> None:
    tapped = tap()
    start_relay()
    jumping = start_relay(**clock.environment)
    eventually(lambda: shares(relay_engine) == [32, 32])
    before = owners(relay_engine)
    days = history.days(relay_engine)
    with writing(relay_engine, BOOKS, pause=0.05) as versions:
        for offset in JUMPS:
            clock.jump(offset)
            await_more(versions, 15)
            assert owners(relay_engine) == before, f"after {offset}"
    eventually(lambda: backlog(relay_engine) == 0, within=20)
    assert versions_by_first_appearance(tapped) == dict.fromkeys(BOOKS, versions)
    assert "relay failed" not in jumping.log.read_text()
    assert history.days(relay_engine) == days


def test_relay_whose_clock_is_wrong_keeps_the_history_by_that_of_the_database(
    relay_engine: Engine, start_relay: Callable[..., RunningRelay], clock: Clock
) -> None:
    today = history.today_utc(relay_engine)
    history.make_days(relay_engine, today)
    days = history.days(relay_engine)
    clock.jump("+40d")
    relay = start_relay(**clock.environment, RELAY_HISTORY_DAYS="1")
    eventually(relay.connected)
    eventually(lambda: shares(relay_engine) == [64])
    relay.ask_to_stop()
    eventually(lambda: relay.process.exit_code() == 0)
    assert history.days(relay_engine) == days


def test_relay_takes_over_from_a_dead_one_though_the_databases_clock_has_stepped_back(
    relay_engine: Engine, start_relay: Callable[..., RunningRelay]
) -> None:
    """To a clock that has stepped back by five hours, all that it has written lies five hours ahead."""
    dead, _ = start_relay(), start_relay()
    eventually(lambda: shares(relay_engine) == [32, 32])
    dead.kill()
    with relay_engine.connect() as connection:
        for table, column in (("shard_lease", "expires_at"), ("relay", "seen_at")):
            connection.execute(text(f"UPDATE {table} SET {column} = {column} + INTERVAL 5 HOUR"))  # noqa: S608  names
    eventually(lambda: shares(relay_engine) == [64], within=20)
