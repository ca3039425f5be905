"""Keys are changed by command, while services run and clients call."""

import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import grpc
import httpx
import pytest
from joserfc.util import urlsafe_b64decode

from api.auth.keys import SigningKeys
from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import thread_engine
from common.denied_tokens import KEPT
from common.tokens import SCOPES
from devstack.stack import Stack
from protos.bookstore.v1 import books_pb2, books_pb2_grpc
from tests.fixtures.api import PASSWORD
from tests.fixtures.commands import assert_one_sentence
from tests.fixtures.schema import ROOT, database_settings
from tests.fixtures.system import system_environment
from tests.fixtures.system_services import Service, Starter
from tests.waiting import eventually

LEAD_SECONDS = 3
Command = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def command(stack: Stack, database_url: str, tmp_path: Path) -> Command:
    """`python -m api keys …`, where the services of the test have their keys."""

    def run(*words: str, lead: int = LEAD_SECONDS) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-m", "api", "keys", *words],
            cwd=ROOT,
            env={
                **system_environment(stack, database_url, tmp_path),
                "SIGNING_KEY_LEAD": f"PT{lead}S",
            },
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )

    return run


@pytest.fixture
def directory(stack: Stack, database_url: str, tmp_path: Path) -> Path:
    return Path(system_environment(stack, database_url, tmp_path)["SIGNING_KEYS_DIR"])


@pytest.fixture
def services(start: Starter, database_url: str) -> tuple[Service, Service]:
    """An API and a reader that believes it, with one user."""
    engine = thread_engine(database_settings(database_url))
    add_user(engine, "ada", Passwords().hash(PASSWORD), list(SCOPES))
    engine.dispose()
    api = start("api", SIGNING_KEY_LEAD=f"PT{LEAD_SECONDS}S", RATE_LIMIT_LOGIN="0")
    reader = start("grpc_reader", JWKS_URL=f"{api.url}/.well-known/jwks.json")
    eventually(lambda: api.ready and reader.ready, within=20, because="both serve")
    return api, reader


class Caller:
    """Logs in and calls both services, again and again; `failures` is what went wrong."""

    def __init__(self, api: Service, reader: Service) -> None:
        self.client = httpx.Client(base_url=api.url, timeout=10)
        port = reader.process.environment["GRPC_PORT"]
        self.channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        self.books = books_pb2_grpc.BookServiceStub(self.channel)  # type: ignore[no-untyped-call]
        self.failures: list[str] = []
        self.calls = 0
        self.token = ""
        self.stop = threading.Event()

    def log_in(self) -> str:
        form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
        token: str = self.client.post("/v1/auth/token", data=form).raise_for_status().json()["access_token"]
        return token

    def verdicts(self, token: str) -> tuple[int, str]:
        bearer = f"Bearer {token}"
        status = self.client.get("/v1/books", headers={"Authorization": bearer}).status_code
        call = self.books.ListBooks.with_call
        try:
            call(books_pb2.ListBooksRequest(), metadata=[("authorization", bearer)], timeout=10)
        except grpc.RpcError as error:
            return status, error.code().name
        return status, "OK"

    def run(self) -> None:
        """A new login and one of the first each time."""
        first = self.log_in()
        while not self.stop.is_set():
            try:
                self.token = self.log_in()
                for token in (first, self.token):
                    if (found := self.verdicts(token)) != (200, "OK"):
                        self.failures.append(f"{found}")
                    self.calls += 1
            except httpx.HTTPError as error:
                self.failures.append(repr(error))

    def close(self) -> None:
        self.client.close()
        self.channel.close()


@contextmanager
def calling(caller: Caller) -> Iterator[None]:
    thread = threading.Thread(target=caller.run)
    thread.start()
    try:
        yield
    finally:
        caller.stop.set()
        thread.join(20)
        caller.close()


def kid_of(token: str) -> str:
    return str(json.loads(urlsafe_b64decode(token.partition(".")[0].encode()))["kid"])


def test_keys_change_without_a_failed_call_and_a_withdrawn_one_opens_nothing(
    services: tuple[Service, Service], command: Command
) -> None:
    api, reader = services
    caller = Caller(api, reader)
    with calling(caller):
        eventually(lambda: bool(caller.token), because="somebody is logged in")
        old_token = caller.token
        old = kid_of(old_token)
        made = command("rotate")
        assert made.returncode == 0, made.stderr
        new = next(word.strip(".") for word in made.stdout.split() if len(word.strip(".")) == 43)
        eventually(lambda: new in httpx.get(f"{api.url}/.well-known/jwks.json").text, within=5)
        assert kid_of(caller.token) == old, "it is published before it signs"
        eventually(lambda: kid_of(caller.token) == new, within=LEAD_SECONDS + 5)
        calls = caller.calls
        eventually(lambda: caller.calls > calls + 20, within=20)
        assert caller.failures == []
        caller.stop.set()
    after = Caller(api, reader)
    assert after.verdicts(old_token) == (200, "OK")
    assert command("remove", old).returncode == 0
    eventually(lambda: after.verdicts(old_token) == (401, "UNAUTHENTICATED"), within=5)
    assert after.verdicts(after.log_in()) == (200, "OK")
    after.close()
    for service in services:
        service.ends(signal.SIGTERM)
        assert "Traceback" not in service.log


def states(command: Command, lead: int = LEAD_SECONDS) -> list[str]:
    return [line.split("  ")[1].strip() for line in command("list", lead=lead).stdout.splitlines()]


def test_rotating_waits_for_the_key_that_waits_and_removes_what_is_done(
    command: Command, directory: Path
) -> None:
    lead = 60
    assert SigningKeys.open(directory)
    assert states(command, lead) == ["signs"]
    assert command("rotate", lead=lead).returncode == 0
    assert states(command, lead) == ["signs", "waits"]
    assert_one_sentence(command("rotate", lead=lead), 3, "is new already; it signs from")
    for age, found in ((lead + 60, "verifies"), (KEPT.total_seconds() + lead + 60, "is done")):
        for older, file in enumerate(sorted(directory.glob("*.pem"), key=lambda it: -it.stat().st_mtime)):
            os.utime(file, (time.time() - age - 5 * older,) * 2)
        assert states(command, lead) == [found, "signs"]
    done = command("rotate", lead=lead)
    assert "all its tokens are over" in done.stdout
    assert states(command, lead) == ["signs", "waits"]
    assert str(datetime.now(UTC).year) in command("list", lead=lead).stdout


@pytest.mark.parametrize(("kid", "words"), [("unknown", "keys list"), ("", "keys list")])
def test_a_key_that_there_is_not_cannot_be_removed(
    command: Command, directory: Path, kid: str, words: str
) -> None:
    assert SigningKeys.open(directory)
    assert_one_sentence(command("remove", kid), 2, words)


def test_the_only_key_cannot_be_removed(command: Command, directory: Path) -> None:
    only = SigningKeys.open(directory).current().kid
    assert_one_sentence(command("remove", only), 2, "rotate")
    assert states(command) == ["signs"]


def test_a_wrong_file_among_the_keys_of_a_running_api_changes_nothing(
    services: tuple[Service, Service], directory: Path
) -> None:
    api, reader = services
    (directory / "wrong.pem").write_text("no key")
    eventually(lambda: "signing keys not read" in api.log, within=5)
    caller = Caller(api, reader)
    assert caller.verdicts(caller.log_in()) == (200, "OK")
    caller.close()
