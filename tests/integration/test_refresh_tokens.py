"""What it takes to end logins whose tokens were refreshed many times, or of which there are many."""

import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, bindparam, insert, select, text

from api import purging
from api.auth import refresh_tokens
from api.auth.refresh_tokens import new_family
from api.auth.users import add_user, find_user
from api.tables import RefreshTokenRow
from common.database import Database, thread_engine, transaction
from common.denied_tokens import ADMITTED
from common.settings import DatabaseSettings
from common.tables import DeniedTokenRow

ROWS = 3000
AT_ONCE = 20
LIFETIME = timedelta(days=30)


@pytest.fixture
def connection(fresh_settings: DatabaseSettings) -> Iterator[Connection]:
    engine = thread_engine(fresh_settings)
    for name in ("ada", "bob"):
        add_user(engine, name, "no hash", ["books:read"])
    with engine.connect() as found:
        yield found
    engine.dispose()


def id_of(connection: Connection, username: str) -> int:
    user = find_user(connection, username=username)
    assert user
    return user.id


def log_in(
    connection: Connection, username: str, *, ago: timedelta = timedelta(0), refreshes: int = 0
) -> str:
    """The family of a login whose newest token is so old, and was refreshed so many times before."""
    family, newest = new_family(), datetime.now(UTC) - ago
    user_id = id_of(connection, username)
    rows: list[dict[str, Any]] = []
    for number in range(refreshes + 1):
        issued_at = newest - timedelta(milliseconds=50 * number)
        row = row_of(user_id, f"{family} {number}", family=family, issued_at=issued_at)
        rows.append({**row, "revoked_at": newest if number else None})
    connection.execute(insert(RefreshTokenRow), rows)
    return family


def row_of(user_id: int, secret: str, *, family: str, issued_at: datetime) -> dict[str, Any]:
    """A token that is not revoked, as it is stored."""
    return {
        "user_id": user_id,
        "family": family,
        "scopes": "books:read",
        "audiences": "",
        "token_hash": refresh_tokens._digest(secret),  # noqa: SLF001  as it is stored
        "issued_at": issued_at,
        "expires_at": issued_at + LIFETIME,
        "revoked_at": None,
    }


def rows_read(connection: Connection, work: Callable[[], None]) -> int:
    """How many rows and entries of indexes the server looks at meanwhile."""
    connection.execute(text("FLUSH STATUS"))
    work()
    found = connection.execute(text("SHOW SESSION STATUS LIKE 'Handler_read%'")).all()
    return sum(int(value) for _, value in found)


def denied(connection: Connection) -> set[str]:
    return set(connection.execute(select(DeniedTokenRow.name)).scalars())  # type: ignore[call-overload]


def live(connection: Connection) -> set[str]:
    """The families that can be refreshed."""
    statement = text("SELECT family FROM refresh_token WHERE revoked_at IS NULL")
    return set(connection.execute(statement).scalars())


def test_ending_all_logins_reads_few_of_the_rows_of_who_refreshed_often(connection: Connection) -> None:
    busy = log_in(connection, "ada", refreshes=ROWS)
    others = [log_in(connection, "ada") for _ in range(3)]
    somebody = log_in(connection, "bob", refreshes=ROWS)
    ada = id_of(connection, "ada")
    assert rows_read(connection, lambda: refresh_tokens.revoke_all(connection, ada)) < ROWS / 20
    assert denied(connection) == {busy, *others}
    assert live(connection) == {somebody}


def test_ending_a_login_reads_few_of_its_rows(connection: Connection) -> None:
    busy, other = log_in(connection, "ada", refreshes=ROWS), log_in(connection, "ada")
    token = refresh_tokens.find(connection, f"{busy} {ROWS}")
    assert token
    assert token.is_revoked
    assert rows_read(connection, lambda: refresh_tokens.revoke_family(connection, token)) < ROWS / 20
    assert (denied(connection), live(connection)) == ({busy}, {other})


@pytest.mark.anyio
async def test_a_login_can_be_denied_for_as_long_as_anybody_is_admitted_by_it(
    connection: Connection, fresh_settings: DatabaseSettings
) -> None:
    """Also where its refresh tokens are good for no time at all."""
    family = log_in(connection, "ada")
    connection.execute(text("UPDATE refresh_token SET expires_at = issued_at"))
    connection.commit()
    begun, database = datetime.now(UTC), Database(fresh_settings)
    await purging.purge(database, begun + ADMITTED - timedelta(seconds=30))
    assert live(connection) == {family}
    connection.rollback()
    assert await purging.purge(database, begun + ADMITTED + timedelta(seconds=30)) == {"refresh_token": 1}
    await database.close()


def test_ending_all_logins_names_those_that_may_still_be_let_in_and_ends_the_others_too(
    connection: Connection,
) -> None:
    young = log_in(connection, "ada", ago=timedelta(hours=24, minutes=50), refreshes=2)
    log_in(connection, "ada", ago=timedelta(hours=25, minutes=10), refreshes=2)
    refresh_tokens.revoke_all(connection, id_of(connection, "ada"))
    assert (denied(connection), live(connection)) == ({young}, set())


@pytest.fixture
def three_logins(monkeypatch: pytest.MonkeyPatch) -> None:
    """No user may have more."""
    monkeypatch.setattr(refresh_tokens, "MOST_LOGINS", 3)


@pytest.mark.usefixtures("three_logins")
def test_one_login_too_many_ends_that_which_was_not_refreshed_for_longest(connection: Connection) -> None:
    somebody, oldest = log_in(connection, "bob"), log_in(connection, "ada", refreshes=2)
    others = [log_in(connection, "ada") for _ in range(3)]
    refresh_tokens.end_the_oldest(connection, id_of(connection, "ada"))
    assert (denied(connection), live(connection)) == ({oldest}, {somebody, *others})
    refresh_tokens.end_the_oldest(connection, id_of(connection, "ada"))
    assert live(connection) == {somebody, *others}


@pytest.mark.usefixtures("three_logins")
def test_logins_that_are_over_make_none_end_that_is_not(connection: Connection) -> None:
    """Also where they began later, because the operator lets them last less than before."""
    good = [log_in(connection, "ada") for _ in range(2)]
    over = [log_in(connection, "ada") for _ in range(3)]
    statement = text("UPDATE refresh_token SET expires_at = issued_at WHERE family IN :families")
    connection.execute(statement.bindparams(bindparam("families", over, expanding=True)))
    new = log_in(connection, "ada")
    refresh_tokens.end_the_oldest(connection, id_of(connection, "ada"))
    assert (denied(connection), live(connection)) == (set(over), {*good, new})


@pytest.mark.usefixtures("three_logins")
def test_a_login_ends_few_of_too_many_and_names_those_that_may_still_be_let_in(
    connection: Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(refresh_tokens, "ENDED_AT_ONCE", 2)
    log_in(connection, "ada", ago=timedelta(hours=25, minutes=10))
    young = log_in(connection, "ada", ago=timedelta(hours=24, minutes=50))
    others = [log_in(connection, "ada") for _ in range(5)]
    ada = id_of(connection, "ada")
    refresh_tokens.end_the_oldest(connection, ada)
    assert (denied(connection), live(connection)) == ({young}, set(others))
    refresh_tokens.end_the_oldest(connection, ada)
    assert live(connection) == set(others[2:])


def test_a_login_reads_few_of_the_rows_of_who_has_too_many(connection: Connection) -> None:
    ada, now = id_of(connection, "ada"), datetime.now(UTC)
    rows = [row_of(ada, str(number), family=new_family(), issued_at=now) for number in range(2 * ROWS)]
    connection.execute(insert(RefreshTokenRow), rows)
    log_in(connection, "ada", refreshes=ROWS)
    assert rows_read(connection, lambda: refresh_tokens.end_the_oldest(connection, ada)) < 4000
    assert len(live(connection)) == 2 * ROWS + 1 - refresh_tokens.ENDED_AT_ONCE


@pytest.mark.usefixtures("three_logins")
def test_logins_of_one_user_at_once_do_not_wait_for_one_another(
    connection: Connection, fresh_settings: DatabaseSettings
) -> None:
    """Each holds the user's row and its own new token, and would end the same old ones."""
    for _ in range(AT_ONCE):
        log_in(connection, "ada")
    connection.commit()
    engine = thread_engine(fresh_settings, pool_size=AT_ONCE, impatient=True)
    stored, ended = threading.Barrier(AT_ONCE), threading.Barrier(AT_ONCE)

    def log_in_at_once(_: int) -> None:
        with transaction(engine) as own:
            log_in(own, "ada")
            stored.wait(20)
            refresh_tokens.end_the_oldest(own, id_of(own, "ada"))
            ended.wait(20)

    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(log_in_at_once, range(AT_ONCE)))
    engine.dispose()
    assert len(live(connection)) <= 3 + AT_ONCE
    log_in(connection, "ada")
    refresh_tokens.end_the_oldest(connection, id_of(connection, "ada"))
    assert len(live(connection)) == 3
