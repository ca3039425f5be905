"""Lists for which the database may walk the whole table, and what they leave to others."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait
from contextlib import contextmanager

import httpx
import pytest
from sqlalchemy import text

from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import thread_engine
from tests.fixtures.api import PASSWORD, Api
from tests.waiting import eventually

USERS = ["one", "two", "three"]
EACH, TOGETHER, OF_ONE_USER = 4, 8, 16
_DEAR, _CHEAP = "SELECT book.%", "SELECT%FORCE INDEX%"
_WAITING = text(
    "SELECT SUM(info LIKE :dear AND info NOT LIKE :cheap), SUM(info LIKE :cheap)"
    " FROM information_schema.processlist WHERE db = DATABASE() AND state LIKE '%lock%'"
)


@pytest.fixture(scope="module")
def readers(api: Api) -> list[str]:
    """The tokens of three users."""
    engine = thread_engine(api.settings)
    hashed = Passwords().hash(PASSWORD)
    for username in USERS:
        add_user(engine, username, hashed, ["books:read"])
    engine.dispose()
    return [api.login(username)["access_token"] for username in USERS]


def kind_of(answer: httpx.Response) -> str:
    return str(answer.json()["type"]).removeprefix("/problems/")


class Lists:
    """Lists that are asked for while the table answers nobody."""

    def __init__(self, api: Api, tokens: list[str], pool: ThreadPoolExecutor) -> None:
        self._clients = [api.client(token) for token in tokens]
        self._pool = pool
        self._engine = thread_engine(api.settings, pool_size=2)

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("LOCK TABLES book WRITE")
            try:
                yield
            finally:
                connection.exec_driver_sql("UNLOCK TABLES")

    def ask(self, user: int, count: int, query: str) -> list[Future[httpx.Response]]:
        client = self._clients[user]
        return [self._pool.submit(client.get, f"/v1/books?{query}") for _ in range(count)]

    def at_the_database(self) -> tuple[int, int]:
        """How many wait for the table that may be dear, and others."""
        with self._engine.connect() as connection:
            found = connection.execute(_WAITING, {"dear": _DEAR, "cheap": _CHEAP}).one()
            return int(found[0] or 0), int(found[1] or 0)

    def most(self) -> int:
        """Of those that may be dear, in a second."""
        ends = time.monotonic() + 1
        most = 0
        while time.monotonic() < ends:
            most = max(most, self.at_the_database()[0])
        return most

    def close(self) -> None:
        for client in self._clients:
            client.close()
        self._engine.dispose()


@pytest.fixture
def lists(api: Api, readers: list[str]) -> Iterator[Lists]:
    with ThreadPoolExecutor(3 * (OF_ONE_USER + 4)) as pool:
        found = Lists(api, readers, pool)
        yield found
        found.close()


@pytest.mark.parametrize(
    "query", ["author=A&title=B", "author=A", "title=B&sort=-author", "published_to=2000-01-01&sort=title"]
)
def test_one_user_asks_for_a_few_at_once_and_has_a_few_waiting(lists: Lists, api: Api, query: str) -> None:
    with lists.held():
        asked = lists.ask(0, OF_ONE_USER + 4, query)
        eventually(lambda: sum(each.done() for each in asked) >= 4)
        assert lists.most() == EACH
    answers = [each.result() for each in asked]
    busy = [answer for answer in answers if answer.status_code == 503 and kind_of(answer) == "busy"]
    assert len(busy) >= 4
    for answer in busy:
        assert "filters" in answer.json()["detail"]
        assert int(answer.headers["retry-after"]) >= 1
    with api.client() as client:
        assert 'api_refused_total{reason="lists"}' in client.get("/metrics").text
    # Those at the database have waited too long for the table.
    assert {kind_of(answer) for answer in answers if answer.status_code != 200} <= {"busy", "contended"}
    assert {each.result().status_code for each in lists.ask(0, 3, query)} == {200}


def test_all_users_leave_half_of_the_connections_to_what_is_not_dear(lists: Lists) -> None:
    with lists.held():
        dear = [each for user in range(3) for each in lists.ask(user, EACH, "author=A&title=B")]
        eventually(lambda: lists.at_the_database()[0] == TOGETHER)
        assert lists.most() == TOGETHER
        # These come through to the database as ever.
        cheap = lists.ask(0, 5, "author=A&sort=author")
        eventually(lambda: lists.at_the_database()[1] == len(cheap), within=2)
    wait([*dear, *cheap])
    assert {each.result().status_code for each in lists.ask(0, 3, "author=A&title=B")} == {200}
