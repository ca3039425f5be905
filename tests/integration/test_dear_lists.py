"""Lists for which the database may walk the whole table, and what they leave to others."""

import time
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
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
_WAITING = text(
    "SELECT COUNT(*) FROM information_schema.processlist"
    " WHERE db = DATABASE() AND info LIKE 'SELECT book.%' AND state LIKE '%lock%'"
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


class Lists:
    """Lists that are asked for while the table answers nobody."""

    def __init__(self, api: Api, pool: ThreadPoolExecutor) -> None:
        self._api = api
        self._pool = pool
        self._engine = thread_engine(api.settings)

    @contextmanager
    def held(self) -> Iterator[None]:
        with self._engine.connect() as connection:
            connection.exec_driver_sql("LOCK TABLES book WRITE")
            try:
                yield
            finally:
                connection.exec_driver_sql("UNLOCK TABLES")
        self._engine.dispose()

    def ask(self, token: str, count: int, query: str) -> list[Future[httpx.Response]]:
        return [self._pool.submit(self._get, token, query) for _ in range(count)]

    def at_the_database(self) -> int:
        with self._engine.connect() as connection:
            return int(connection.execute(_WAITING).scalar_one())

    def _get(self, token: str, query: str) -> httpx.Response:
        with self._api.client(token) as client:
            return client.get(f"/v1/books?{query}")


@pytest.fixture
def lists(api: Api) -> Iterator[Lists]:
    with ThreadPoolExecutor(3 * (OF_ONE_USER + 4)) as pool:
        yield Lists(api, pool)


@pytest.mark.parametrize(
    "query", ["author=A&title=B", "author=A", "title=B&sort=-author", "published_to=2000-01-01&sort=title"]
)
def test_one_user_asks_for_a_few_at_once_and_has_a_few_waiting(
    lists: Lists, readers: list[str], query: str
) -> None:
    with lists.held():
        asked = lists.ask(readers[0], OF_ONE_USER + 4, query)
        eventually(lambda: (lists.at_the_database(), sum(each.done() for each in asked)) == (EACH, 4))
        for refused in (each.result() for each in asked if each.done()):
            assert (refused.status_code, refused.json()["type"]) == (503, "/problems/busy")
            assert "filters" in refused.json()["detail"]
            assert int(refused.headers["retry-after"]) >= 1
    assert [each.result().status_code for each in asked].count(200) == OF_ONE_USER


def test_all_users_leave_half_of_the_connections_to_what_is_not_dear(
    lists: Lists, readers: list[str], api: Api
) -> None:
    with lists.held():
        dear = [each for token in readers for each in lists.ask(token, EACH, "author=A&title=B")]
        eventually(lambda: lists.at_the_database() == TOGETHER)
        time.sleep(0.3)
        assert lists.at_the_database() == TOGETHER
        # These come through to the database as ever.
        cheap = lists.ask(readers[0], 5, "author=A&sort=author")
        eventually(lambda: lists.at_the_database() == TOGETHER + len(cheap))
    assert {each.result().status_code for each in [*dear, *cheap]} == {200}
    with api.client() as client:
        assert 'api_refused_total{reason="lists"}' in client.get("/metrics").text
