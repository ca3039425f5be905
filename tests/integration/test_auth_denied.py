"""Who was signed out is let in by neither service any more, whatever else their token is."""

import asyncio
import base64
import hashlib
import json
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import grpc
import pytest
from sqlalchemy import Engine, insert, select, text
from sqlalchemy.exc import OperationalError
from sqlalchemy.ext.asyncio import AsyncConnection

from api.auth import refresh_tokens
from api.auth.denials import deny
from api.auth.passwords import Passwords
from api.auth.users import add_user, find_user
from api.purging import purge
from api.tables import RefreshTokenRow
from common import denied_tokens
from common.database import WORK_SECONDS, Database, thread_engine, transaction
from common.denied_tokens import DeniedTokens
from common.errors import DatabaseUnavailableError, UnauthenticatedError
from common.tables import DeniedTokenRow
from common.tokens import API, READER, SCOPES, Principal
from grpc_reader.arrival import understand
from grpc_reader.generations import Generations
from grpc_reader.recorder import Recorder
from protos.bookstore.v1.events_pb2 import WatchDeliveredEventsRequest
from tests.attacks import ORDER, base64url
from tests.fixtures.api import PASSWORD, Api
from tests.fixtures.reader import make_event
from tests.fixtures.ways_in import ACCEPTED, REFUSED, GrpcDoor, RestDoor
from tests.waiting import eventually

ANOTHER = "mule wrong capacitor"
SECONDS = 5


@pytest.fixture(scope="module")
def engine(api: Api) -> Iterator[Engine]:
    engine = thread_engine(api.settings)
    add_user(engine, "ada", Passwords().hash(PASSWORD), list(SCOPES))
    yield engine
    engine.dispose()


class Doors:
    """Both ways in, and what they say to somebody's access token."""

    def __init__(self, rest: RestDoor, reader: GrpcDoor) -> None:
        self.rest, self.reader = rest, reader

    def verdicts(self, token: str) -> tuple[str, str]:
        return self.rest.knock(f"Bearer {token}").verdict, self.reader.knock(f"Bearer {token}").verdict

    def assert_open(self, login: dict[str, Any]) -> None:
        assert self.verdicts(login["access_token"]) == (ACCEPTED, ACCEPTED)

    def assert_close(self, login: dict[str, Any]) -> None:
        """At the API from its next answer on, at the reader within seconds."""
        token = login["access_token"]
        assert self.rest.knock(f"Bearer {token}").verdict == REFUSED
        eventually(lambda: self.verdicts(token) == (REFUSED, REFUSED), within=SECONDS)


@pytest.fixture
def doors(rest_door: RestDoor, grpc_door: GrpcDoor, engine: Engine) -> Doors:
    assert engine
    return Doors(rest_door, grpc_door)


def bearer(login: dict[str, Any]) -> dict[str, str]:
    return {"Authorization": f"Bearer {login['access_token']}"}


def revoke(api: Api, token: str) -> None:
    assert api.post("/v1/auth/revoke", {"token": token}).status_code == 200


def refresh(api: Api, login: dict[str, Any]) -> int:
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    return api.post("/v1/auth/token", form).status_code


def test_a_revoked_access_token_goes_alone(api: Api, doors: Doors) -> None:
    mine, other = api.login("ada"), api.login("ada")
    doors.assert_open(mine)
    revoke(api, mine["access_token"])
    doors.assert_close(mine)
    doors.assert_open(other)
    assert refresh(api, mine) == 200


def test_the_twin_of_a_revoked_token_is_refused_too(api: Api, doors: Doors) -> None:
    """To each signature (r, s) there is another, (r, n - s), that is as good: the text is not the token."""
    login = api.login("ada")
    head, payload, tail = login["access_token"].split(".")
    good = base64.urlsafe_b64decode(tail + "==")
    twin = good[:32] + (ORDER - int.from_bytes(good[32:], "big")).to_bytes(32, "big")
    other = {"access_token": f"{head}.{payload}.{base64url(twin)}"}
    doors.assert_open(other)
    revoke(api, login["access_token"])
    doors.assert_close(other)


def test_with_a_refresh_token_go_the_access_tokens_of_its_login(api: Api, doors: Doors) -> None:
    first = api.login("ada")
    form = {"grant_type": "refresh_token", "refresh_token": first["refresh_token"]}
    second = api.post("/v1/auth/token", form).json()
    other = api.login("ada")
    revoke(api, second["refresh_token"])
    doors.assert_close(first)
    doors.assert_close(second)
    doors.assert_open(other)


def test_a_refresh_token_that_comes_twice_ends_the_access_tokens_of_its_login(api: Api, doors: Doors) -> None:
    login = api.login("ada")
    assert (refresh(api, login), refresh(api, login)) == (200, 400)
    eventually(lambda: doors.verdicts(login["access_token"]) == (REFUSED, REFUSED), within=SECONDS)


def test_signing_out_ends_all_logins_of_one_user(api: Api, doors: Doors) -> None:
    mine, elsewhere, somebody = api.login("ada"), api.login("ada"), api.login("reader")
    with api.client() as client:
        answer = client.post("/v1/auth/sign-out", headers=bearer(mine))
        assert (answer.status_code, answer.content) == (204, b"")
        assert client.post("/v1/auth/sign-out", headers=bearer(mine)).status_code == 401
        assert client.post("/v1/auth/sign-out").status_code == 401
    for login in (mine, elsewhere):
        doors.assert_close(login)
        assert refresh(api, login) == 400
    doors.assert_open(somebody)
    doors.assert_open(api.login("ada"))


def test_a_login_too_many_ends_the_oldest_of_the_same_user(
    api: Api, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    with api.client() as client:
        assert client.post("/v1/auth/sign-out", headers=bearer(api.login("ada"))).status_code == 204
    monkeypatch.setattr(refresh_tokens, "MOST_LOGINS", 2)
    somebody, oldest, older = api.login("reader"), api.login("ada"), api.login("ada")
    form = {"grant_type": "refresh_token", "refresh_token": oldest["refresh_token"]}
    # A refresh is no further login, and makes an old one new.
    for _ in range(3):
        answer = api.post("/v1/auth/token", form)
        form["refresh_token"] = answer.json()["refresh_token"]
    doors.assert_open(older)
    newest = api.login("ada")
    eventually(lambda: doors.verdicts(older["access_token"]) == (REFUSED, REFUSED), within=SECONDS)
    assert refresh(api, older) == 400
    for login in (somebody, answer.json(), newest):
        doors.assert_open(login)
        assert refresh(api, login) == 200


def live_logins(engine: Engine) -> int:
    """How many of ada's can be refreshed."""
    statement = text(
        "SELECT COUNT(*) FROM refresh_token WHERE revoked_at IS NULL"
        " AND user_id = (SELECT id FROM user_account WHERE username = 'ada')"
    )
    with engine.begin() as connection:
        return int(connection.execute(statement).scalar_one())


def test_who_has_as_many_logins_as_may_be_signs_out_in_time(api: Api, doors: Doors, engine: Engine) -> None:
    """All of them were refreshed, and some are too many, from before there was a limit."""
    login, now = api.login("ada"), datetime.now(UTC)
    families = [refresh_tokens.new_family() for _ in range(refresh_tokens.MOST_LOGINS + 50)]
    with transaction(engine) as connection:
        user = find_user(connection, username="ada")
        assert user
        for number in range(4):
            rows = [
                {
                    "token_hash": hashlib.sha256(f"{family} {number}".encode()).hexdigest(),
                    "user_id": user.id,
                    "family": family,
                    "scopes": "books:read",
                    "audiences": API,
                    "issued_at": now,
                    "expires_at": now + timedelta(days=30),
                    "revoked_at": now if number < 3 else None,
                }
                for family in families
            ]
            connection.execute(insert(RefreshTokenRow), rows)
    newest = api.login("ada")
    assert live_logins(engine) == refresh_tokens.MOST_LOGINS
    eventually(lambda: doors.verdicts(login["access_token"]) == (REFUSED, REFUSED), within=SECONDS)
    with api.client() as client:
        begun = time.monotonic()
        assert client.post("/v1/auth/sign-out", headers=bearer(newest)).status_code == 204
        took = time.monotonic() - begun
    assert took < WORK_SECONDS
    assert live_logins(engine) == 0


@pytest.mark.usefixtures("nobody_owes")
def test_another_password_ends_all_logins_and_the_old_password(api: Api, doors: Doors) -> None:
    mine, elsewhere = api.login("ada"), api.login("ada", scope="books:read")
    change = {"current_password": PASSWORD, "new_password": ANOTHER}
    with api.client() as client:
        assert client.post("/v1/auth/password", json=change, headers=bearer(mine)).status_code == 204
    for login in (mine, elsewhere):
        doors.assert_close(login)
        assert refresh(api, login) == 400
    assert api.ask_token("ada").status_code == 400
    again = api.ask_token("ada", ANOTHER)
    assert again.status_code == 200
    back = {"current_password": ANOTHER, "new_password": PASSWORD}
    with api.client() as client:
        assert client.post("/v1/auth/password", json=back, headers=bearer(again.json())).status_code == 204


@pytest.mark.usefixtures("nobody_owes", "engine")
@pytest.mark.parametrize(
    ("changes", "status", "pointer"),
    [
        ({"current_password": "not the password"}, 422, "/current_password"),
        ({"new_password": "short"}, 422, "/new_password"),
        ({"new_password": "password1234"}, 422, "/new_password"),
        ({"new_password": PASSWORD}, 422, "/new_password"),
        ({"new_password": PASSWORD, "current_password": PASSWORD + "s"}, 422, "/current_password"),
        ({"new_password": "x" * 129}, 422, "/new_password"),
        ({"new_password": 123456789012}, 422, "/new_password"),
        ({"username": "reader"}, 422, "/username"),
    ],
)
def test_a_password_that_will_not_do_changes_nothing_and_is_not_repeated(
    api: Api, changes: dict[str, Any], status: int, pointer: str
) -> None:
    login = api.login("ada")
    change = {"current_password": PASSWORD, "new_password": ANOTHER, **changes}
    with api.client() as client:
        answer = client.post("/v1/auth/password", json=change, headers=bearer(login))
        assert (answer.status_code, answer.json()["errors"][0]["pointer"]) == (status, pointer)
        assert not [each for each in change.values() if len(str(each)) > 8 and str(each) in answer.text]
        assert client.post("/v1/auth/password", json=change).status_code == 401
        assert client.get("/v1/books", headers=bearer(login)).status_code == 200
    assert api.ask_token("ada").status_code == 200


def test_a_stream_ends_before_it_tells_who_was_signed_out_of_another_event(
    api: Api, doors: Doors, engine: Engine
) -> None:
    generations = Generations(engine)
    generations.prepare()
    generations.register("a" * 32, replacing=None)
    recorder = Recorder(engine)

    def record(version: int) -> None:
        recorder.record([understand(make_event(900, version))], {"a" * 32})

    record(1)
    streams = {}
    for name in ("ada", "reader"):
        login = api.login(name)
        streams[name] = doors.reader.reader.events.WatchDeliveredEvents(
            WatchDeliveredEventsRequest(book_id=900),
            metadata=[("authorization", f"Bearer {login['access_token']}")],
        )
        assert next(streams[name]).event.book_version == 1
        if name == "ada":
            revoke(api, login["refresh_token"])
            doors.assert_close(login)
    record(2)
    assert next(streams["reader"]).event.book_version == 2
    with pytest.raises(grpc.RpcError) as ended:
        next(streams["ada"])
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
    streams["reader"].cancel()


def test_a_stream_that_nothing_comes_on_ends_with_its_login(api: Api, doors: Doors) -> None:
    logins = {name: api.login(name) for name in ("ada", "reader")}
    streams = {
        name: doors.reader.reader.events.WatchDeliveredEvents(
            WatchDeliveredEventsRequest(book_id=901),
            metadata=[("authorization", f"Bearer {login['access_token']}")],
        )
        for name, login in logins.items()
    }
    revoke(api, logins["ada"]["refresh_token"])
    begun = time.monotonic()
    with pytest.raises(grpc.RpcError) as ended:
        next(streams["ada"])
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED
    assert time.monotonic() - begun < SECONDS
    assert streams["reader"].is_active()
    streams["reader"].cancel()


def test_a_stream_ends_before_its_login_is_too_old_to_be_named(
    api: Api, doors: Doors, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever ends all logins of a user names those of the last hours alone."""
    assert timedelta(hours=24) < denied_tokens.ADMITTED < denied_tokens.KEPT
    monkeypatch.setattr(denied_tokens, "ADMITTED", timedelta(seconds=2))
    stream = doors.reader.reader.events.WatchDeliveredEvents(
        WatchDeliveredEventsRequest(book_id=902),
        metadata=[("authorization", f"Bearer {api.login('ada')['access_token']}")],
        timeout=20,
    )
    with pytest.raises(grpc.RpcError) as ended:
        next(stream)
    assert ended.value.code() is grpc.StatusCode.UNAUTHENTICATED


@pytest.mark.parametrize(
    ("resource", "verdicts"),
    [(API, (ACCEPTED, REFUSED)), (READER, (REFUSED, ACCEPTED)), ("", (ACCEPTED, ACCEPTED))],
)
def test_a_token_for_one_service_opens_that_one_and_so_does_what_it_is_refreshed_to(
    api: Api, doors: Doors, resource: str, verdicts: tuple[str, str]
) -> None:
    login = api.login("ada", resource=resource)
    assert doors.verdicts(login["access_token"]) == verdicts
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    again = api.post("/v1/auth/token", form).json()
    assert doors.verdicts(again["access_token"]) == verdicts
    revoke(api, again["access_token"])
    eventually(lambda: doors.verdicts(again["access_token"]) == (REFUSED, REFUSED), within=SECONDS)


def test_a_refresh_reaches_no_service_that_the_login_was_not_for(api: Api, doors: Doors) -> None:
    assert doors
    login = api.login("ada", resource=API)
    form = {"grant_type": "refresh_token", "refresh_token": login["refresh_token"]}
    answer = api.post("/v1/auth/token", {**form, "resource": READER})
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")
    assert api.post("/v1/auth/token", form).status_code == 200


@pytest.mark.parametrize("resource", ["elsewhere", "urn:bookstore:relay", f"{API} {READER}"])
def test_a_service_that_there_is_not_is_an_invalid_target(api: Api, resource: str) -> None:
    answer = api.ask_token(resource=resource)
    assert (answer.status_code, answer.json()["error"]) == (400, "invalid_target")
    assert answer.json()["type"] == "/problems/invalid-target"


def test_a_login_that_is_under_way_keeps_the_user_from_being_changed(api: Api, engine: Engine) -> None:
    """Or its tokens would outlive the end of all logins that comes between password and answer."""
    assert api
    with engine.connect() as login, engine.connect() as operator:
        assert find_user(login, username="ada")
        operator.execute(text("SET innodb_lock_wait_timeout = 1"))
        with pytest.raises(OperationalError, match="Lock wait timeout"):
            find_user(operator, username="ada", to_change=True)
        login.rollback()
        assert find_user(operator, username="ada", to_change=True)
        operator.rollback()


@pytest.mark.anyio
async def test_until_the_list_was_read_nobody_can_be_judged(api: Api) -> None:
    database = Database(api.settings)
    denied = DeniedTokens(database)
    principal = Principal("ada", frozenset(), int(time.time()), int(time.time()) + 60, "1", frozenset({"1"}))
    with pytest.raises(DatabaseUnavailableError):
        denied.check(principal)
    await denied.read()
    denied.check(principal)
    await database.close()


@pytest.mark.anyio
async def test_what_is_denied_is_forgotten_when_it_is_over(api: Api, engine: Engine) -> None:
    database = Database(api.settings)
    denied = DeniedTokens(database)

    def add(name: str, seconds: int) -> None:
        with engine.begin() as connection:
            statement = text(
                "INSERT INTO denied_token"
                " VALUES (:name, UTC_TIMESTAMP(6), UTC_TIMESTAMP(6) + INTERVAL :seconds SECOND)"
            )
            connection.execute(statement, {"name": name, "seconds": seconds})

    await denied.read()
    add("over", 3600)
    add("lasting", 3600)
    await denied.read()
    assert {"over", "lasting"} <= denied._names  # noqa: SLF001  what must not grow for ever
    # By the database's clock, which is the only one that counts.
    with engine.begin() as connection:
        connection.execute(text("UPDATE denied_token SET expires_at = UTC_TIMESTAMP(6) WHERE name = 'over'"))
    await denied.read_all()
    assert "over" not in denied._names  # noqa: SLF001  likewise
    assert "lasting" in denied._names  # noqa: SLF001  likewise
    await database.close()


@pytest.mark.anyio
async def test_a_single_token_is_denied_for_an_hour_beyond_its_own_time_and_a_login_for_a_day(
    api: Api, engine: Engine
) -> None:
    """Or who refreshes and revokes all the time would make a list that nobody can read in time."""
    login, ended = api.login("ada"), api.login("ada")
    claims = json.loads(base64.urlsafe_b64decode(login["access_token"].split(".")[1] + "=="))
    sid = json.loads(base64.urlsafe_b64decode(ended["access_token"].split(".")[1] + "=="))["sid"]
    revoke(api, login["access_token"])
    revoke(api, ended["refresh_token"])
    over = datetime.fromtimestamp(claims["exp"], UTC) + timedelta(hours=1)

    def kept() -> dict[str, datetime]:
        with engine.begin() as connection:
            rows = connection.execute(select(DeniedTokenRow.name, DeniedTokenRow.expires_at))  # type: ignore[call-overload]
            return {name: until for name, until in rows if name in {claims["jti"], sid}}

    assert abs(kept()[claims["jti"]] - over) < timedelta(seconds=30)
    assert kept()[sid] > over + timedelta(hours=23)
    database = Database(api.settings)
    await purge(database, over - timedelta(minutes=1))
    assert kept().keys() == {claims["jti"], sid}
    await purge(database, over + timedelta(minutes=1))
    assert kept().keys() == {sid}
    await database.close()


@pytest.mark.anyio
async def test_the_list_is_read_in_pages_and_what_is_new_also_while_they_cannot_be_read(
    api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("common.denied_tokens._PAGE", 2)
    monkeypatch.setattr("common.denied_tokens._POLL_SECONDS", 0.05)
    names = [f"page {number}" for number in range(5)]
    with engine.begin() as connection:
        deny(connection, names)
        connection.execute(text("UPDATE denied_token SET denied_at = denied_at - INTERVAL 1 HOUR"))
    database = Database(api.settings)
    denied = DeniedTokens(database)
    await denied.read()
    assert [name for name in names if not is_denied(denied, name)] == []

    tries = 0

    async def fail() -> None:
        nonlocal tries
        tries += 1
        raise DatabaseUnavailableError

    denied.read_all = fail  # type: ignore[method-assign]
    denied._all_tried_at = float("-inf")  # noqa: SLF001  it is time again
    running = asyncio.create_task(denied.run())
    for name in ("new", "newer"):
        with engine.begin() as connection:
            deny(connection, [name])
        await asyncio.to_thread(eventually, partial(is_denied, denied, name), within=5)
    assert tries, "in vain, before the second was found"
    running.cancel()
    await asyncio.wait([running])
    await database.close()


def is_denied(denied: DeniedTokens, name: str) -> bool:
    try:
        denied.check(Principal("ada", frozenset(), 0, 0, "1", frozenset({name})))
    except UnauthenticatedError:
        return True
    return False


@pytest.mark.anyio
async def test_who_began_to_read_before_does_not_forget_what_another_has_found(
    api: Api, engine: Engine
) -> None:
    database = Database(api.settings)
    denied = DeniedTokens(database)
    go_on, has_read = asyncio.Event(), asyncio.Event()
    read = database.read

    @asynccontextmanager
    async def slow_once() -> AsyncIterator[AsyncConnection]:
        database.read = read  # type: ignore[method-assign]
        async with read() as connection:
            yield connection
            has_read.set()
            await go_on.wait()

    database.read = slow_once  # type: ignore[assignment,method-assign]
    first = asyncio.create_task(denied.read())
    await has_read.wait()
    with engine.begin() as connection:
        deny(connection, ["found by the second"])
    second = asyncio.create_task(denied.read())
    await asyncio.wait([second], timeout=0.5)
    go_on.set()
    await asyncio.gather(first, second)
    principal = Principal("ada", frozenset(), 0, 0, "1", frozenset({"found by the second"}))
    with pytest.raises(UnauthenticatedError):
        denied.check(principal)
    await database.close()
