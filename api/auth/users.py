import re
from dataclasses import dataclass
from datetime import UTC, datetime

from sqlalchemy import Connection, Engine, insert, select
from sqlalchemy.exc import IntegrityError

from api.tables import UserRow
from common.database import transaction

_COLUMNS = UserRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
_NAME = re.compile("[a-z0-9._-]{1,64}")


@dataclass(frozen=True)
class User:
    """Somebody who may log in, and the scopes that their tokens may carry."""

    id: int
    username: str
    scopes: tuple[str, ...]
    password_hash: str

    def get_user_id(self) -> str:
        """What Authlib writes into `sub`."""
        return self.username


class UserExistsError(Exception):
    """Somebody has this name already."""


def find_user(
    connection: Connection, *, username: str | None = None, user_id: int | None = None
) -> User | None:
    """The user of this name or id, if there is one."""
    if username is not None and not _NAME.fullmatch(username):
        return None
    query = select(_COLUMNS.id, _COLUMNS.username, _COLUMNS.scopes, _COLUMNS.password_hash)
    query = query.where(_COLUMNS.id == user_id if username is None else _COLUMNS.username == username)
    row = connection.execute(query).one_or_none()
    return None if row is None else User(row.id, row.username, tuple(row.scopes.split()), row.password_hash)


def add_user(engine: Engine, username: str, password_hash: str, scopes: list[str]) -> None:
    """Store a user; ValueError for a name that will not do, UserExistsError for one that is taken."""
    if not _NAME.fullmatch(username):
        raise ValueError("A user name is 1 to 64 of the characters a-z 0-9 . _ -")
    values = {
        "username": username,
        "password_hash": password_hash,
        "scopes": " ".join(dict.fromkeys(scopes)),
        "created_at": datetime.now(UTC),
    }
    try:
        with transaction(engine) as connection:
            connection.execute(insert(UserRow).values(values))
    except IntegrityError:
        raise UserExistsError(f"There is a user {username} already.") from None
