"""Clients that change few hot and many cold books, and one that reads, whatever breaks meanwhile."""

import contextlib
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial

import grpc
import httpx
from sqlalchemy import Engine, text

from common.database import transaction
from common.errors import BookstoreError
from grpc_reader.client import Client as GrpcClient
from tests.faults.evidence import Change, Reading
from tests.faults.journal import Journal
from tests.faults.rest_client import RestClient

_NEWEST = text("SELECT COALESCE(MAX(book_version), 0) FROM delivered_event WHERE book_id = :book")
_PAUSE_SECONDS = 0.01


class Readings:
    """Asks for books over REST and gRPC, and writes down what was on record before (promise 9)."""

    def __init__(self, rest: RestClient, grpc_client: GrpcClient, engine: Engine, journal: Journal) -> None:
        self._rest, self._grpc, self._engine, self._journal = rest, grpc_client, engine, journal

    def read(self, book_id: int) -> None:
        """Ask both; a question without an answer is no reading."""
        for ask in (self._rest.version, self._ask_grpc):
            with contextlib.suppress(httpx.HTTPError, grpc.RpcError, BookstoreError):
                newest = self._newest(book_id)
                self._journal.write(Reading(book_id, newest, ask(book_id)))

    def _newest(self, book_id: int) -> int:
        with transaction(self._engine) as connection:
            return int(connection.execute(_NEWEST, {"book": book_id}).scalar_one())

    def _ask_grpc(self, book_id: int) -> int | None:
        try:
            return self._grpc.get(book_id).version
        except grpc.RpcError as error:
            if error.code() is not grpc.StatusCode.NOT_FOUND:
                raise
            return None


class Workload:
    """Writers and a reader in threads of their own, from `start` to `stop`."""

    def __init__(
        self, new_client: Callable[[], RestClient], readings: Readings, hot: list[int], writers: int = 3
    ) -> None:
        self._new_client, self._readings = new_client, readings
        self._hot, self._cold = hot, list[int]()
        self._stopping = threading.Event()
        self._failed = threading.Event()
        self._failures: list[BaseException] = []
        works: list[Callable[[], None]] = [self._write] * writers + [self._read]
        self._threads = [threading.Thread(target=partial(self._run, work), name="workload") for work in works]

    def start(self) -> None:
        """Begin."""
        for thread in self._threads:
            thread.start()

    def go_on(self, seconds: float) -> None:
        """Return after so many seconds of work, and fail at once if a thread fails."""
        assert not self._failed.wait(seconds), self._failures

    def stop(self) -> None:
        """End, and fail if a thread failed."""
        self._stopping.set()
        for thread in self._threads:
            thread.join()
        assert not self._failures, self._failures

    def _run(self, work: Callable[[], None]) -> None:
        try:
            work()
        except BaseException as error:  # noqa: BLE001  `stop` and `go_on` tell of it
            self._failures.append(error)
            self._failed.set()

    def _write(self) -> None:
        with contextlib.closing(self._new_client()) as client:
            while not self._stopping.wait(_PAUSE_SECONDS):
                self._act(client)

    def _act(self, client: RestClient) -> Change:
        chance = random.random()  # noqa: S311  variety, no secret
        cold = self._take_cold() if chance > 0.6 else None
        if cold is not None and chance > 0.9:
            return client.delete(cold)
        if cold is not None:
            return client.change(cold)
        if chance > 0.5:
            change = client.create()
            if change.book_id is not None:
                self._cold.append(change.book_id)
            return change
        return client.change(random.choice(self._hot))  # noqa: S311  as above

    def _take_cold(self) -> int | None:
        try:
            return self._cold.pop()
        except IndexError:
            return None

    def _read(self) -> None:
        while not self._stopping.wait(_PAUSE_SECONDS):
            self._readings.read(random.choice(self._hot))  # noqa: S311  as above


@contextmanager
def running(workload: Workload) -> Iterator[Workload]:
    """The workload runs while the block does."""
    workload.start()
    try:
        yield workload
    finally:
        workload.stop()
