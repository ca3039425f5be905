"""A client in another language, from our .proto files alone, against the running system."""

import json
import os
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from tests.fixtures.schema import ROOT
from tests.fixtures.system import System
from tests.waiting import eventually

FILES = ROOT / "tests/e2e/javascript_client"
HOME = ROOT / ".local/javascript_client"
DUNE = {"title": "Дюна 🎈", "author": "Frank Herbert", "publication_date": "1965-08-01"}


@dataclass
class Done:
    code: int
    answers: list[Any]
    error: str

    @property
    def refusal(self) -> Any:  # noqa: ANN401  JSON
        assert (self.code, self.answers) == (1, [])
        return json.loads(self.error)


Client = Callable[..., Done]


@pytest.fixture(scope="module")
def program() -> list[str]:
    """The client with its packages, exactly those of its lock file, in this checkout's own folder."""
    if not shutil.which("npm"):
        pytest.skip("npm is missing: `apt-get install npm` brings it, and the client is run then")
    HOME.mkdir(parents=True, exist_ok=True)
    lock = (FILES / "package-lock.json").read_bytes()
    installed = HOME / "installed-lock.json"
    for file in ("package.json", "package-lock.json", "client.mjs"):
        shutil.copy(FILES / file, HOME)
    if not installed.exists() or installed.read_bytes() != lock:
        # With the system's certificates, as apt and pip do.
        environment = {**os.environ, "NODE_OPTIONS": "--use-openssl-ca"}
        words = ["npm", "ci", "--ignore-scripts", "--no-fund", "--no-audit", "--loglevel=error"]
        done = subprocess.run(
            words, cwd=HOME, env=environment, capture_output=True, text=True, check=False, timeout=90
        )
        assert done.returncode == 0, done.stderr
        installed.write_bytes(lock)
    return ["node", str(HOME / "client.mjs")]


@pytest.fixture
def client(system: System, program: list[str]) -> Client:
    """Runs a command of the client with a good token; keyword arguments are variables, over the others."""
    with system.client() as logged_in:
        token = str(logged_in.headers["Authorization"]).removeprefix("Bearer ")
    variables = {"TOKEN": token, "GRPC_ADDRESS": f"127.0.0.1:{system.environment['GRPC_PORT']}"}

    def run(*words: object, **own: str) -> Done:
        done = subprocess.run(
            [*program, *map(str, words)],
            cwd=ROOT,
            env={**os.environ, **variables, **own},
            capture_output=True,
            text=True,
            check=False,
            timeout=30,
        )
        return Done(done.returncode, [json.loads(line) for line in done.stdout.splitlines()], done.stderr)

    return run


@pytest.fixture
def books(system: System) -> list[int]:
    """The ids of three new books, whose events are recorded."""
    with system.client() as logged_in:
        made = [int(logged_in.post("/v1/books", json=DUNE).json()["id"]) for _ in range(3)]
    eventually(lambda: all(system.recorded(each) for each in made))
    return made


def test_get_gives_the_book(client: Client, books: list[int]) -> None:
    [book] = client("get", books[0]).answers
    shown = {name: book[name] for name in ("id", "title", "author", "publication_date", "version")}
    assert shown == {**DUNE, "id": str(books[0]), "version": 1}
    assert int(book["create_time"]["seconds"]) > 1_700_000_000


def test_list_goes_page_by_page_to_the_end(client: Client, books: list[int]) -> None:
    found, token = [], ""
    while True:
        [page] = client("list", 2, token).answers
        assert len(page["books"]) <= 2
        found += [int(book["id"]) for book in page["books"]]
        token = page["next_page_token"]
        if not token:
            break
    assert found == sorted(found)
    assert set(books) <= set(found)


def test_events_come_newest_first(client: Client, books: list[int]) -> None:
    [page] = client("events", 3).answers
    shown = [(event["book_id"], event["type"], event["book"]["title"]) for event in page["events"]]
    assert shown == [(str(book), "bookstore.book.created.v1", DUNE["title"]) for book in reversed(books)]
    [newest] = client("events", 1).answers
    [second] = client("events", 1, newest["next_page_token"]).answers
    assert [*newest["events"], *second["events"]] == page["events"][:2]


def test_watch_goes_on_after_a_position_and_ends_when_it_is_cancelled(
    system: System, client: Client, books: list[int]
) -> None:
    first = int(system.recorded(books[0])[0]["position"])
    done = client("watch", first - 1, 2)
    assert (done.code, done.error) == (0, "")
    assert [(int(event["position"]), int(event["book_id"])) for event in done.answers] == [
        (first, books[0]),
        (first + 1, books[1]),
    ]


def test_an_error_has_a_reason_for_programs(client: Client) -> None:
    refusal = client("get", 2**62).refusal
    assert (refusal["code"], refusal["reason"], refusal["domain"]) == (
        "NOT_FOUND",
        "BOOK_NOT_FOUND",
        "bookstore",
    )
    refusal = client("list", -1).refusal
    assert (refusal["code"], refusal["reason"]) == ("INVALID_ARGUMENT", "INVALID_INPUT")


def test_without_a_token_nothing_is_told_but_health(client: Client) -> None:
    refusal = client("list", TOKEN="").refusal
    assert (refusal["code"], refusal["reason"]) == ("UNAUTHENTICATED", "UNAUTHENTICATED")
    for service in ("", "bookstore.v1.BookService", "bookstore.v1.EventService"):
        assert client("health", service, TOKEN="").answers == [{"status": "SERVING"}]


def test_a_deadline_ends_a_call(client: Client) -> None:
    refusal = client("watch", 2**62, 1, DEADLINE_SECONDS="0.5").refusal
    assert refusal["code"] == "DEADLINE_EXCEEDED"
