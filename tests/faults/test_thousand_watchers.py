"""A thousand watchers at 200 events a second: how late they are, and what the reader's memory does."""

import json
import os
import subprocess
import sys
import threading
import time

import psutil
import pytest

from devstack.servers import free_port
from tests.faults.watching import WATCHERS
from tests.fixtures.reader import Keys, Publisher, make_event
from tests.fixtures.schema import ROOT
from tests.fixtures.two_readers import StartReader
from tests.waiting import eventually

_RATE = 200
_SECONDS = 30
_EVERYTHING = 20
_MEGABYTE = 1_000_000


def publish_steadily(publisher: Publisher) -> None:
    """200 events a second, of one book after the other."""
    pause, begun = threading.Event(), time.monotonic()
    for number in range(_RATE * _SECONDS):
        publisher.publish(make_event(number % WATCHERS + 1, number // WATCHERS + 2))
        pause.wait(max(0.0, begun + number / _RATE - time.monotonic()))


@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_thousand_watchers_at_two_hundred_events_a_second(
    start_reader: StartReader,
    publisher: Publisher,
    keys: Keys,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """Some watch everything and the others a book each. All are in time, though one more never reads, the
    memory has a bound, and nobody is ended.
    """
    port = str(free_port())
    reader = start_reader(GRPC_PORT=port, JWKS_URL=keys.url, GRPC_MAX_USER_WATCHERS=str(WATCHERS + 1))
    for book_id in range(1, WATCHERS + 1):
        publisher.publish(make_event(book_id, 1))
    eventually(lambda: reader.said("event delivered") == WATCHERS)
    process = psutil.Process(reader.process.pid)
    words = [sys.executable, "-m", "tests.faults.watching", port, str(_EVERYTHING), str(_SECONDS + 5)]
    environment = {**os.environ, "TOKEN": keys.token()}
    with subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as watching:
        try:
            assert watching.stdout is not None
            assert watching.stdout.readline() == "ready\n"
            before, used = process.memory_info().rss, sum(process.cpu_times()[:2])
            publish_steadily(publisher)
            found = json.loads(watching.stdout.readline())
            grown = process.memory_info().rss - before
            used = sum(process.cpu_times()[:2]) - used
        finally:
            watching.kill()
    with capsys.disabled():
        print(f"\n{found} memory grew {grown / _MEGABYTE:.1f} MB, {used:.1f} s of processor time")  # noqa: T201
    assert found["ended"] == 0
    assert grown < 40 * _MEGABYTE
    total = WATCHERS + _RATE * _SECONDS
    assert found["all"] == [total, total]
    assert found["own"] == (WATCHERS - _EVERYTHING) * (1 + _RATE * _SECONDS // WATCHERS)
    assert found["lag_ms"]["99"] < 500
