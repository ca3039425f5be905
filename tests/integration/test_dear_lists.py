"""Lists for which the database may walk the whole table, and what they leave to others."""

from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor, wait

import httpx
import pytest

from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import thread_engine
from tests.fixtures.api import PASSWORD, Api
from tests.fixtures.held_books import EACH, OF_ONE_USER, TOGETHER, held_books
from tests.waiting import eventually

USERS = ["one", "two", "three"]


# As many as wait, and those that are refused meanwhile on a machine that has other work.
MANY = OF_ONE_USER + 24


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
    """Lists that the users ask for."""

    def __init__(self, api: Api, tokens: list[str], pool: ThreadPoolExecutor) -> None:
        self._clients = [api.client(token) for token in tokens]
        self._pool = pool

    def ask(self, user: int, count: int, query: str) -> list[Future[httpx.Response]]:
        client = self._clients[user]
        return [self._pool.submit(client.get, f"/v1/books?{query}") for _ in range(count)]

    def close(self) -> None:
        for client in self._clients:
            client.close()


@pytest.fixture
def lists(api: Api, readers: list[str]) -> Iterator[Lists]:
    with ThreadPoolExecutor(MANY) as pool:
        found = Lists(api, readers, pool)
        yield found
        found.close()


@pytest.mark.parametrize(
    "query",
    [
        "author=A&title=B",
        "author=A",
        "title=B&sort=-author",
        "published_to=2000-01-01&sort=title",
        # The index has 255 characters of it.
        f"author={256 * 'A'}&sort=author",
    ],
)
def test_one_user_asks_for_a_few_at_once_and_has_a_few_waiting(lists: Lists, api: Api, query: str) -> None:
    with held_books(api.settings) as held:
        asked = lists.ask(0, MANY, query)
        eventually(lambda: sum(each.done() for each in asked) >= 4)
        assert held.most()[1] == EACH
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


def test_all_users_leave_half_of_the_connections_to_what_is_not_dear(lists: Lists, api: Api) -> None:
    with held_books(api.settings) as held:
        dear = [each for user in range(3) for each in lists.ask(user, 3 * EACH, "author=A&title=B")]
        eventually(lambda: held.at_the_database()[0] == TOGETHER)
        assert held.most()[0] == TOGETHER
        # These come through to the database as ever.
        cheap = lists.ask(0, 5, "author=A&sort=author")
        eventually(lambda: held.at_the_database()[1] >= 1)
    wait([*dear, *cheap])
    assert {each.result().status_code for each in lists.ask(0, 3, "author=A&title=B")} == {200}
