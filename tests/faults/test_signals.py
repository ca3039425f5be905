"""SIGTERM and SIGINT, at any moment and as often as anybody likes: each service ends with 0 in time."""

import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text

from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.tokens import SCOPES
from devstack.servers import free_port
from devstack.stack import Stack
from tests.fixtures.journal import BOOK, assert_whole
from tests.fixtures.relay import Tap, write
from tests.fixtures.schema import ROOT, new_database
from tests.fixtures.system_services import Service, Starter
from tests.fixtures.trouble import frozen_database, is_problem
from tests.waiting import eventually

SERVICES = pytest.mark.parametrize("kind", ["api", "outbox_relay", "grpc_reader"])
TWICE = (signal.SIGTERM, signal.SIGTERM, signal.SIGINT)
PASSWORD = "correct horse battery"
HEADER = b"title,author,publication_date\n"
ROW = b"Dune,Frank Herbert,1965-08-01\n"


# Runs a service until it asks for something that is neither Python's nor ours.
FIRST_LIBRARY = """
import os, runpy, signal, sys
OURS = {*sys.stdlib_module_names, "api", "common", "grpc_reader", "outbox_relay"}
class Look:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] not in OURS:
            print([signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)], flush=True)
            os._exit(0)
sys.meta_path.insert(0, Look())
kind = sys.argv[1]
sys.argv = [kind, "serve"]
runpy.run_module(kind, run_name="__main__", alter_sys=True)
"""


@SERVICES
def test_service_hears_signals_before_it_imports_any_library(kind: str) -> None:
    command = [sys.executable, "-c", FIRST_LIBRARY, kind]
    done = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    assert done.stdout.count("function _end") == 2


@SERVICES
@pytest.mark.parametrize("library", ["", "_pydantic_core", "greenlet"])
def test_signal_while_a_service_imports_what_it_needs_ends_it_with_0(
    start: Starter, kind: str, library: str
) -> None:
    service = start(kind)
    eventually(lambda: service.hears(signal.SIGTERM))
    eventually(lambda: service.has_loaded(library))
    service.ends(signal.SIGTERM)


@SERVICES
def test_signal_while_a_service_waits_for_its_database_ends_it_with_0(start: Starter, kind: str) -> None:
    service = start(kind, DATABASE_URL=f"mysql://u:p@127.0.0.1:{free_port()}/n")
    eventually(lambda: service.hears(signal.SIGTERM))
    eventually(lambda: service.has_loaded("greenlet"))
    service.ends(*TWICE)


@SERVICES
def test_signal_while_a_service_waits_for_its_schema_ends_it_with_0(
    start: Starter, stack: Stack, kind: str
) -> None:
    with new_database(stack) as url:
        service = start(kind, DATABASE_URL=url)
        eventually(lambda: "waiting for schema" in service.log)
        service.ends(*TWICE)


@SERVICES
@pytest.mark.usefixtures("fresh_broker")
def test_signals_while_the_database_is_frozen_end_a_service_with_0_in_time(
    start: Starter, stack: Stack, kind: str
) -> None:
    service = start(kind)
    eventually(lambda: service.ready)
    with frozen_database(stack):
        # A relay waits for it twice: to end what it does, and to give its shards back.
        service.ends(*TWICE, within=12)


def test_signal_to_a_relay_that_cannot_settle_what_was_confirmed_ends_it_with_0_in_time(
    start: Starter, stack: Stack, relay_engine: Engine, tap: Callable[[], Tap], tmp_path: Path
) -> None:
    tap()
    write(relay_engine, [(book_id, 1) for book_id in range(1, 101)])
    faults = tmp_path / "faults"
    faults.mkdir()
    (faults / "armed").write_text("wait relay.before-settle 1")
    service = start("outbox_relay", FAULTS_FOLDER=str(faults))
    eventually((faults / "relay.before-settle.reached").exists)
    with frozen_database(stack):
        (faults / "relay.before-settle.go").touch()
        service.ends(*TWICE, within=12)
        assert "relay cannot settle yet" in service.log


@pytest.fixture
def api(start: Starter, relay_engine: Engine) -> Service:
    add_user(relay_engine, "writer", Passwords().hash(PASSWORD), list(SCOPES))
    service = start("api")
    eventually(lambda: service.ready)
    return service


@pytest.fixture
def client(api: Service) -> Iterator[httpx.Client]:
    with httpx.Client(base_url=api.url, timeout=30) as client:
        form = {"grant_type": "password", "username": "writer", "password": PASSWORD}
        token = client.post("/v1/auth/token", data=form).json()["access_token"]
        client.headers["Authorization"] = f"Bearer {token}"
        yield client


def test_request_in_hand_is_answered_before_the_api_ends(
    api: Service, client: httpx.Client, relay_engine: Engine
) -> None:
    path = client.post("/v1/books", json=BOOK).headers["location"]
    waiting = text("SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE '%FOR UPDATE'")
    with ThreadPoolExecutor() as pool, relay_engine.connect() as other, relay_engine.connect() as third:
        other.execute(text("BEGIN"))
        other.execute(text("UPDATE book SET title = 'locked'"))
        answer = pool.submit(client.patch, path, json={"title": "x"})
        eventually(lambda: third.execute(waiting).scalar())
        for number in TWICE:
            api.process.signal(number)
        eventually(lambda: not takes_more(api.url))
        other.execute(text("ROLLBACK"))
        assert answer.result().json()["version"] == 2
        api.ends()
    assert_whole(relay_engine)


def takes_more(url: str) -> bool:
    try:
        socket.create_connection(("127.0.0.1", httpx.URL(url).port or 0), timeout=5).close()
    except OSError:
        return False
    return True


def test_requests_that_a_frozen_database_keeps_are_answered_before_the_api_ends(
    api: Service, client: httpx.Client, stack: Stack
) -> None:
    with ThreadPoolExecutor() as pool, frozen_database(stack):
        answers = [pool.submit(partial(client.post, "/v1/books", json=BOOK)) for _ in range(4)]
        eventually(lambda: sum(answer.running() for answer in answers) == 4)
        assert answers[0].result().status_code == 503  # so the others have been taken, too
        again = pool.submit(partial(client.get, "/v1/books"))
        eventually(again.running)
        api.ends(*TWICE)
        assert {answer.result().status_code for answer in answers} == {503}


def test_import_that_goes_on_for_ever_is_cut_off_between_two_transactions(
    api: Service, client: httpx.Client, relay_engine: Engine
) -> None:
    leave = threading.Event()

    def rows() -> Iterator[bytes]:
        yield HEADER
        while not leave.is_set():
            yield ROW * 100

    with ThreadPoolExecutor() as pool:
        headers = {"Content-Type": "text/csv"}
        answer = pool.submit(partial(client.post, "/v1/books:import", content=rows(), headers=headers))
        try:
            eventually(lambda: assert_whole(relay_engine) > 0)
            api.ends(*TWICE)
        finally:
            leave.set()
        assert is_problem(answer.result(), "outcome-unknown")
    stored = assert_whole(relay_engine)
    assert stored % 500 == 0
    # The last batch may have been stored without being known to be.
    told = int(re.findall(r"The first ([0-9]+) good rows", answer.result().json()["detail"])[0])
    assert told in {stored, stored - 500}


@pytest.mark.usefixtures("fresh_broker")
def test_relay_and_reader_with_work_in_hand_end_with_0(
    start: Starter, relay_engine: Engine, api: Service, client: httpx.Client
) -> None:
    relay, reader = start("outbox_relay"), start("grpc_reader")
    eventually(lambda: relay.ready and reader.ready)
    client.post("/v1/books:import", content=HEADER + ROW * 5000, headers={"Content-Type": "text/csv"})
    recorded = text("SELECT COUNT(*) FROM delivered_event")
    with relay_engine.connect() as connection:
        eventually(lambda: connection.execute(recorded).scalar())
    relay.ends(*TWICE)
    reader.ends(*TWICE)
    api.ends(*TWICE)
