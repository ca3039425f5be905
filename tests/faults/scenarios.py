"""Situations in which careless builds break. Each is forced, runs on a build, and leaves evidence.

The build is a module of tests/faults/broken, or "" for the sound one.
"""

import contextlib
import re
import signal
import sys
import threading
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager

import grpc
from sqlalchemy import make_url

from common.events import EXCHANGE
from devstack.process import Process
from devstack.servers import free_port
from grpc_reader.topology import QUEUE
from tests.faults.evidence import Evidence
from tests.faults.late_commit import late_commit
from tests.faults.trial import Trial
from tests.fixtures.wire import wire_to
from tests.waiting import eventually

_GATE = "gate"


def commit_that_never_arrives(trial: Trial, build: str) -> Evidence:
    """The API's connection to the database ends just before it says COMMIT."""
    url = make_url(trial.system.environment["DATABASE_URL"])
    assert url.port is not None
    with wire_to(url.port) as wire:
        through = url.set(port=wire.port).render_as_string(hide_password=False)
        with trial.serving("api", build=build, DATABASE_URL=through), trial.client() as client:
            client.create()  # a new connection says COMMIT before it does anything
            wire.cut_at(b"\x03COMMIT", arrives=False)  # a query (03) of this one word
            assert client.create().outcome == "unknown"
            trial.settle()
            return trial.evidence()


def no_queue_for_a_moment(trial: Trial, build: str) -> Evidence:
    """An event is published while no queue is bound."""
    with trial.serving("outbox_relay", build=build):
        with _bound(trial), trial.client() as client:
            client.create()
            eventually(lambda: trial.backlog() == 0 or _returned(trial))
        trial.settle()
        return trial.evidence()


def reader_that_dies_with_a_batch_in_hand(trial: Trial, build: str) -> Evidence:
    """The reader is killed just before it records."""
    with trial.serving("grpc_reader", build=build):
        trial.arm("kill reader.before-record 1")
        with trial.client() as client:
            client.create()
        trial.await_death("grpc_reader")
        trial.restart("grpc_reader", build=build)
        trial.settle()
        return trial.evidence()


def transaction_that_commits_late(trial: Trial, build: str) -> Evidence:
    """Its outbox id is lower than that of an event that went through before it is committed."""
    with trial.serving("outbox_relay", build=build):
        with late_commit(trial.engine, trial.journal):
            trial.sentinel()
        trial.sentinel()
        return trial.evidence()


def relay_that_pauses_with_its_claim(trial: Trial, build: str) -> Evidence:
    """One relay stops before it publishes what it has read; another finds the book's next event."""
    with trial.serving("outbox_relay", build=build), trial.client() as client:
        trial.arm("wait relay.after-claim 1")
        book_id = client.create().book_id
        assert book_id is not None
        eventually(lambda: trial.reached("relay.after-claim"))
        with _second_relay(trial, build):
            client.change(book_id)
            eventually(
                lambda: (book_id, 2) in _on_the_wire(trial), within=30, because="the other relay sends"
            )
            trial.let_go("relay.after-claim")
            trial.settle()
            return trial.evidence()


def first_event_unroutable_and_second_not(trial: Trial, build: str) -> Evidence:
    """For a moment there are queues for changes and none for new books."""
    trial.system.services["outbox_relay"].stop()
    with _bound(trial, "book.updated.v1"), trial.client() as client:
        book_id = client.create().book_id
        assert book_id is not None
        client.change(book_id)
        trial.restart("outbox_relay", build=build)
        eventually(lambda: _returned(trial))
    trial.settle()
    evidence = trial.evidence()
    trial.restart("outbox_relay")
    return evidence


def change_between_miss_and_fill(trial: Trial, build: str) -> Evidence:
    """Somebody has read a book for the cache, and puts it in when the book's next event is on record."""
    with trial.serving("grpc_reader", build=build), trial.client() as client:
        book_id = client.create().book_id
        assert book_id is not None
        eventually(lambda: trial.recorded_version(book_id) == 1)
        trial.arm("wait cache.before-fill 1")
        asking = threading.Thread(target=_ask_until_it_would_fill, args=[trial, book_id])
        asking.start()
        eventually(lambda: trial.reached("cache.before-fill"), because="a book is missed")
        client.change(book_id)
        eventually(lambda: trial.recorded_version(book_id) == 2)
        trial.let_go("cache.before-fill")
        asking.join()
        with trial.readings() as readings:
            readings.read(book_id)
        return trial.evidence()


def _ask_until_it_would_fill(trial: Trial, book_id: int) -> None:
    with trial.grpc() as client:
        while not trial.reached("cache.before-fill"):
            with contextlib.suppress(grpc.RpcError):
                client.get(book_id)


def _on_the_wire(trial: Trial) -> set[tuple[int, int]]:
    return {(event.book_id, event.version) for event in trial.evidence().wire}


def _returned(trial: Trial) -> bool:
    """Whether an event came back to the relay since it was started."""
    url = f"http://127.0.0.1:{trial.system.environment['RELAY_HEALTH_PORT']}/metrics"
    with urllib.request.urlopen(url, timeout=5) as answer:
        text = answer.read().decode()
    return re.search(r'relay_events_total\{outcome="returned"\} [1-9]', text) is not None


@contextmanager
def _bound(trial: Trial, *keys: str) -> Iterator[None]:
    """The queues want events with these routing keys only, while the block lasts.

    The reader, which would put its binding back within seconds, stands still meanwhile. Both queues are
    behind one exchange: an event that is sent again between two bindings would be on one of them only.
    """
    reader = trial.system.services["grpc_reader"]
    reader.signal(signal.SIGSTOP)
    channel = trial.tap.connection.default_channel
    queues = (trial.tap.queue, QUEUE.name)
    channel.exchange_declare(_GATE, "fanout", durable=False, auto_delete=False)
    for queue in queues:
        channel.queue_bind(queue, _GATE)
    for key in keys:
        channel.exchange_bind(_GATE, EXCHANGE, key)
    for queue in queues:
        channel.queue_unbind(queue, EXCHANGE, "book.#")
    try:
        yield
    finally:
        channel.exchange_bind(_GATE, EXCHANGE, "book.#")
        for queue in queues:
            channel.queue_bind(queue, EXCHANGE, "book.#")
        channel.exchange_delete(_GATE)
        reader.signal(signal.SIGCONT)


@contextmanager
def _second_relay(trial: Trial, build: str) -> Iterator[None]:
    environment = {
        **trial.system.environment,
        "RELAY_HEALTH_PORT": str(free_port()),
        "FAULTS_BUILD": build,
        "FAULTS_FOLDER": "",
    }
    command = [sys.executable, "-m", "tests.faults.launch", "outbox_relay", "serve"]
    relay = Process("second relay", command, environment, trial.folder.parent / "second_relay.log")
    relay.start()
    try:
        yield
    finally:
        relay.stop()
