"""Many clients change one book from the same version, through two processes of the API: one is let in."""

from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import httpx
import pytest
from sqlalchemy import Engine, text

from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import thread_engine
from common.settings import DatabaseSettings
from common.tokens import SCOPES
from tests.fixtures.api import PASSWORD
from tests.fixtures.system_services import Starter
from tests.waiting import eventually

CLIENTS = 12
DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
Request = tuple[str, dict[str, Any] | None]


@pytest.fixture
def engine(fresh_settings: DatabaseSettings) -> Iterator[Engine]:
    made = thread_engine(fresh_settings)
    yield made
    made.dispose()


@pytest.fixture
def clients(engine: Engine, start: Starter) -> Iterator[list[httpx.Client]]:
    """Logged in, every other one at the other process."""
    add_user(engine, "writer", Passwords().hash(PASSWORD), list(SCOPES))
    services = [start("api"), start("api")]
    for service in services:
        eventually(lambda service=service: service.ready, because="the API serves")  # type: ignore[misc]
    form = {"grant_type": "password", "username": "writer", "password": PASSWORD}
    token = httpx.post(f"{services[0].url}/v1/auth/token", data=form).json()["access_token"]
    headers = {"Authorization": f"Bearer {token}"}
    made = [
        httpx.Client(base_url=services[number % 2].url, headers=headers, timeout=30)
        for number in range(CLIENTS)
    ]
    yield made
    for client in made:
        client.close()


def raced(clients: list[httpx.Client], path: str, request: Callable[[int], Request]) -> list[int]:
    """The statuses of requests that are all sent at once, on connections that are open."""
    barrier = Barrier(len(clients))

    def send(number: int) -> int:
        clients[number].get("/livez")
        method, body = request(number)
        barrier.wait(30)
        return clients[number].request(method, path, json=body, headers={"If-Match": '"1"'}).status_code

    with ThreadPoolExecutor(len(clients)) as pool:
        return list(pool.map(send, range(len(clients))))


def events_of(engine: Engine, book_id: int) -> list[tuple[int, str]]:
    """(version, type) of all that the outbox announces of a book."""
    with engine.begin() as connection:
        rows = connection.execute(
            text("SELECT book_version, type FROM outbox WHERE book_id = :id ORDER BY book_version"),
            {"id": book_id},
        )
        return [(row[0], row[1]) for row in rows]


def put(number: int) -> Request:
    return "PUT", {**DUNE, "title": f"Dune {number}"}


def patch(number: int) -> Request:
    return "PATCH", {"title": f"Dune {number}"}


def delete(_: int) -> Request:
    return "DELETE", None


def any_of_them(number: int) -> Request:
    return (put, patch, delete)[number % 3](number)


@pytest.mark.parametrize("request_of", [put, patch, delete, any_of_them])
def test_of_writers_with_the_same_version_exactly_one_is_let_in(
    clients: list[httpx.Client], engine: Engine, request_of: Callable[[int], Request]
) -> None:
    for _ in range(10):
        book = clients[0].post("/v1/books", json=DUNE).json()
        statuses = raced(clients, f"/v1/books/{book['id']}", request_of)
        done = Counter(status for status in statuses if status < 300)
        assert sum(done.values()) == 1, statuses
        deleted = 204 in done
        # Who comes after a deletion finds no book; all others find that theirs has changed.
        assert Counter(statuses) == done + Counter({404 if deleted else 412: CLIENTS - 1})
        after = clients[1].get(f"/v1/books/{book['id']}")
        assert after.status_code == (404 if deleted else 200)
        if not deleted:
            assert after.json()["version"] == 2
        kind = "bookstore.book.deleted.v1" if deleted else "bookstore.book.updated.v1"
        assert events_of(engine, book["id"]) == [(1, "bookstore.book.created.v1"), (2, kind)]
