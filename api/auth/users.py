import re
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, insert, select, update
from sqlalchemy.exc import IntegrityError

from api.auth.refresh_tokens import revoke_all
from api.tables import UserRow
from common.database import transaction
from common.errors import ContendedError
from common.retry import retry

_COLUMNS = UserRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
_NAME = re.compile("[a-z0-9._-]{1,64}")


@dataclass(frozen=True)
class User:
    """Somebody who may log in, unless disabled, and the scopes that their tokens may carry."""

    id: int
    username: str
    scopes: tuple[str, ...]
    password_hash: str
    is_disabled: bool
    created_at: datetime


class UserExistsError(Exception):
    """Somebody has this name already."""


class NoSuchUserError(Exception):
    """Nobody has this name."""


def find_user(
    connection: Connection,
    *,
    username: str | None = None,
    user_id: int | None = None,
    to_change: bool = False,
) -> User | None:
    """The user of this name or id, if there is one; locked against changes, or for one, until the commit."""
    if username is not None and not _NAME.fullmatch(username):
        return None
    query = select(*_COLUMNS)
    query = query.where(_COLUMNS.id == user_id if username is None else _COLUMNS.username == username)
    row = connection.execute(query.with_for_update(read=not to_change)).one_or_none()
    return None if row is None else _user(row)


def _user(row: Any) -> User:  # noqa: ANN401  a row of the table
    return User(
        id=row.id,
        username=row.username,
        scopes=tuple(row.scopes.split()),
        password_hash=row.password_hash,
        is_disabled=row.disabled_at is not None,
        created_at=row.created_at,
    )


def list_users(engine: Engine) -> list[User]:
    """All users, by name."""
    with transaction(engine) as connection:
        rows = connection.execute(select(*_COLUMNS).order_by(_COLUMNS.username)).all()
    return [_user(row) for row in rows]


def add_user(engine: Engine, username: str, password_hash: str, scopes: list[str]) -> None:
    """Store a user; ValueError for a name that will not do, UserExistsError for one that is taken."""
    if not _NAME.fullmatch(username):
        raise ValueError("A user name is 1 to 64 of the characters a-z 0-9 . _ -")
    values = {
        "username": username,
        "password_hash": password_hash,
        "scopes": _text(scopes),
        "created_at": datetime.now(UTC),
    }
    try:
        with transaction(engine) as connection:
            connection.execute(insert(UserRow).values(values))
    except IntegrityError:
        raise UserExistsError(f"There is a user {username} already.") from None


def set_password(engine: Engine, username: str, password_hash: str) -> None:
    """Give a user another password, and end their logins; NoSuchUserError."""
    _change(engine, username, password_hash=password_hash)


@retry(times=5, delay=0.05, exceptions=(ContendedError,))
def set_scopes(engine: Engine, username: str, scopes: list[str]) -> bool:
    """What the user's tokens may carry from the next login on; NoSuchUserError.

    True when that takes a scope away: then their logins are ended, for tokens carry what they were given.
    """
    with transaction(engine) as connection:
        user = find_user(connection, username=username, to_change=True)
        takes_away = user is not None and not set(user.scopes) <= set(scopes)
        change(connection, username, signs_out=takes_away, scopes=_text(scopes))
    return takes_away


def disable(engine: Engine, username: str) -> None:
    """Let a user log in no more, and end their logins; NoSuchUserError."""
    _change(engine, username, disabled_at=datetime.now(UTC))


def enable(engine: Engine, username: str) -> None:
    """Let a user log in again; NoSuchUserError."""
    _change(engine, username, signs_out=False, disabled_at=None)


def sign_out(engine: Engine, username: str) -> None:
    """End all logins of a user: no token of theirs is good any more; NoSuchUserError."""
    _change(engine, username)


@retry(times=5, delay=0.05, exceptions=(ContendedError,))
def _change(engine: Engine, username: str, *, signs_out: bool = True, **values: object) -> None:
    with transaction(engine) as connection:
        change(connection, username, signs_out=signs_out, **values)


def change(connection: Connection, username: str, *, signs_out: bool = True, **values: object) -> None:
    """Change columns of a user and, unless told otherwise, end their logins; NoSuchUserError, no commit."""
    user = find_user(connection, username=username, to_change=True)
    if user is None:
        raise NoSuchUserError(f"There is no user {username}.")
    if values:
        connection.execute(update(UserRow).where(_COLUMNS.id == user.id).values(values))
    if signs_out:
        revoke_all(connection, user.id)


def _text(scopes: list[str]) -> str:
    return " ".join(dict.fromkeys(scopes))
