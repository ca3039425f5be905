"""A running system whose services can be armed, with all that is needed to judge what it did."""

import contextlib
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlalchemy import Engine, text

from common.database import transaction
from grpc_reader.client import Client as GrpcClient
from tests.faults.checker import Violation, check
from tests.faults.collecting import collect
from tests.faults.evidence import Evidence
from tests.faults.journal import Journal
from tests.faults.launch import arm
from tests.faults.rest_client import RestClient
from tests.faults.workload import Readings, Workload, running
from tests.fixtures.relay import Tap, backlog
from tests.fixtures.system import System
from tests.waiting import eventually

_RECORDED = text("SELECT COALESCE(MAX(book_version), 0) FROM delivered_event WHERE book_id = :book")


@dataclass
class Trial:
    """`folder` is where the processes look for faults, and say which points they reached (launch.py)."""

    system: System
    engine: Engine
    tap: Tap
    journal: Journal
    folder: Path
    authorization: str

    def arm(self, fault: str) -> None:
        """From now on `ACTION POINT NTH` holds, once, for whichever service comes to that point."""
        arm(self.folder, fault)

    def reached(self, point: str) -> bool:
        """Whether the fault that was armed last has come."""
        return (self.folder / f"{point}.reached").exists()

    def let_go(self, point: str) -> None:
        """Whoever waits there goes on."""
        (self.folder / f"{point}.go").touch()

    def restart(self, service: str, *, build: str = "", **others: str) -> None:
        """Start a service, again if it runs, and wait for it; `others` are variables of its environment."""
        process = self.system.services[service]
        process.stop()
        process.environment = {**self.system.environment, **others, "FAULTS_BUILD": build}
        process.start()
        eventually(partial(self.system.is_ready, service), because=f"{service} is ready")

    @contextmanager
    def serving(self, service: str, *, build: str = "", **others: str) -> Iterator[None]:
        """The service runs so while the block does, and as it should after it."""
        changed = bool(build or others)
        if changed:
            self.restart(service, build=build, **others)
        try:
            yield
        finally:
            if changed:
                self.restart(service)

    def await_death(self, service: str) -> None:
        """Until the service has been killed."""
        process = self.system.services[service]
        assert eventually(process.exit_code, within=20, because=f"{service} dies") == -signal.SIGKILL

    @contextmanager
    def client(self) -> Iterator[RestClient]:
        """A client with a journal."""
        with contextlib.closing(self.new_client()) as client:
            yield client

    def new_client(self) -> RestClient:
        """A client with a journal, which the caller closes."""
        return RestClient(self.system.api_url, self.authorization, self.journal)

    @contextmanager
    def readings(self) -> Iterator[Readings]:
        """Questions over REST and gRPC with a journal."""
        with self.client() as rest, self.grpc() as grpc:
            yield Readings(rest, grpc, self.engine, self.journal)

    @contextmanager
    def under_load(self) -> Iterator[Workload]:
        """Clients change three hot and many cold books, and one reads, while the block lasts."""
        with self.client() as client, self.readings() as readings:
            hot = [book_id for _ in range(3) if (book_id := client.create().book_id)]
            with running(Workload(self.new_client, readings, hot)) as workload:
                yield workload

    def grpc(self) -> GrpcClient:
        """A gRPC client, to be closed as a context."""
        address = f"127.0.0.1:{self.system.environment['GRPC_PORT']}"
        return GrpcClient(address, self.authorization.split()[1])

    def recorded_version(self, book_id: int) -> int:
        """The newest version of a book on record, or 0."""
        with transaction(self.engine) as connection:
            return int(connection.execute(_RECORDED, {"book": book_id}).scalar_one())

    def backlog(self) -> int:
        """How many events wait in the outbox or are parked."""
        return backlog(self.engine)

    def sentinel(self) -> int:
        """Add a book and wait until it is on record: then so is all that was sent before. Its id."""
        with self.client() as client:
            book_id = eventually(lambda: client.create().book_id, because="a book is added")
        assert book_id is not None
        eventually(lambda: self.recorded_version(book_id), because=f"book {book_id} is recorded")
        return book_id

    def settle(self) -> None:
        """Wait until nothing is left to send and all that was sent is recorded."""
        eventually(lambda: self.backlog() == 0, because="the outbox is empty")
        self.sentinel()

    def evidence(self) -> Evidence:
        """All that is known until now."""
        return collect(self.journal, self.engine, self.tap.published())

    def violations(self) -> list[Violation]:
        """What the checker says now; fails if the API has called itself broken."""
        assert self.journal.server_errors == []
        return check(self.evidence())
