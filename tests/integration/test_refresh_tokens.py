"""What it takes to end logins whose tokens were refreshed many times."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, insert, select, text

from api import purging
from api.auth import refresh_tokens
from api.auth.refresh_tokens import new_family
from api.auth.users import add_user, find_user
from api.tables import RefreshTokenRow
from common.database import Database, thread_engine
from common.denied_tokens import ADMITTED
from common.settings import DatabaseSettings
from common.tables import DeniedTokenRow

ROWS = 3000
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
    row = {"user_id": id_of(connection, username), "family": family, "scopes": "books:read", "audiences": ""}
    rows: list[dict[str, Any]] = []
    for number in range(refreshes + 1):
        issued_at = newest - timedelta(milliseconds=50 * number)
        rows.append(
            {
                **row,
                "token_hash": refresh_tokens._digest(f"{family} {number}"),  # noqa: SLF001  as it is stored
                "issued_at": issued_at,
                "expires_at": issued_at + LIFETIME,
                "revoked_at": newest if number else None,
            }
        )
    connection.execute(insert(RefreshTokenRow), rows)
    return family


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
