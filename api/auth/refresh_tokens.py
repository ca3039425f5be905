"""Refresh tokens: opaque, known here by their SHA-256 only, good for one use (RFC 9700, section 4.14.2)."""

import hashlib
import secrets
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from uuid import uuid4

from sqlalchemy import ColumnElement, Connection, func, insert, select, update

from api.auth.denials import deny
from api.tables import RefreshTokenRow
from common.denied_tokens import KEPT

MOST_LOGINS = 1000
"""How many logins a user has at once: signing out ends all of them, and has three seconds for it."""
ENDED_AT_ONCE = 100
"""So many a login ends at most, where there are more from before there was a limit."""
_COLUMNS = RefreshTokenRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it


@dataclass(frozen=True)
class RefreshToken:
    """A stored token. Authlib asks it for its client, of which there is one, and for its scope."""

    id: int
    user_id: int
    family: str
    scopes: str
    audiences: tuple[str, ...]
    is_expired: bool
    is_revoked: bool

    def check_client(self, _: object) -> bool:
        """All clients are the one public client."""
        return True

    def get_scope(self) -> str:
        """What was granted at login."""
        return self.scopes


def new_family() -> str:
    """The name of a login."""
    return str(uuid4())


def new_secret() -> str:
    """256 random bits for the client to keep."""
    return secrets.token_urlsafe(32)


def store(  # noqa: PLR0913  a row has as many columns
    connection: Connection,
    secret: str,
    *,
    user_id: int,
    scopes: str,
    audiences: tuple[str, ...],
    lifetime: timedelta,
    family: str,
) -> None:
    """Remember a token."""
    now = datetime.now(UTC)
    connection.execute(
        insert(RefreshTokenRow).values(
            token_hash=_digest(secret),
            user_id=user_id,
            family=family,
            scopes=scopes,
            audiences=" ".join(audiences),
            issued_at=now,
            expires_at=now + lifetime,
        )
    )


def find(connection: Connection, secret: str) -> RefreshToken | None:
    """The token, locked until the transaction ends: of two that use it at once, the second sees it used."""
    row = connection.execute(
        select(*_COLUMNS).where(_COLUMNS.token_hash == _digest(secret)).with_for_update()
    ).one_or_none()
    if row is None:
        return None
    return RefreshToken(
        id=row.id,
        user_id=row.user_id,
        family=row.family,
        scopes=row.scopes,
        audiences=tuple(row.audiences.split()),
        is_expired=row.expires_at <= datetime.now(UTC),
        is_revoked=row.revoked_at is not None,
    )


def revoke(connection: Connection, token: RefreshToken) -> None:
    """The token is good for nothing any more."""
    _revoke(connection, _COLUMNS.id == token.id)


def revoke_family(connection: Connection, token: RefreshToken) -> None:
    """Nor is any that came from the same login, access tokens too."""
    _revoke(connection, _COLUMNS.family == token.family, _COLUMNS.revoked_at.is_(None))
    deny(connection, [token.family])


def revoke_all(connection: Connection, user_id: int) -> None:
    """Nor any other of the same user, whose row is locked for a change; access tokens too."""
    of_user = _not_ended(user_id)
    # A login whose newest token is revoked was denied when it was.
    families = connection.execute(select(_COLUMNS.family).where(*of_user, _is_recent())).scalars().all()
    _revoke(connection, *of_user)
    deny(connection, families)


def end_the_oldest(connection: Connection, user_id: int) -> None:
    """Of a user's logins leave MOST_LOGINS, and end others, ENDED_AT_ONCE at most; access tokens too.

    First go those whose refresh token has expired, then those that have not been refreshed for longest. Of
    logins at the same time each leaves one more.
    """
    newest_first = select(_COLUMNS.id).where(*_not_ended(user_id)).order_by(_COLUMNS.id.desc())
    beyond = newest_first.offset(MOST_LOGINS).limit(ENDED_AT_ONCE).subquery()
    if not (excess := connection.execute(select(func.count()).select_from(beyond)).scalar_one()):
        return
    # Bounded, for there may be any number from before there was a limit.
    oldest = select(_COLUMNS.id, _COLUMNS.expires_at).where(*_not_ended(user_id)).order_by(_COLUMNS.id)
    some = oldest.limit(MOST_LOGINS + ENDED_AT_ONCE).subquery().c
    order = (some.expires_at > datetime.now(UTC), some.id)
    chosen = connection.execute(select(some.id).order_by(*order).limit(excess)).scalars().all()
    # Two that wait for each other's would be a deadlock; and one that is being refreshed is no old one.
    taken = select(_COLUMNS.id, _COLUMNS.family, _is_recent().label("is_recent"))
    taken = taken.where(_COLUMNS.id.in_(chosen), _COLUMNS.revoked_at.is_(None))
    rows = connection.execute(taken.with_for_update(skip_locked=True)).all()
    _revoke(connection, _COLUMNS.id.in_([row.id for row in rows]))
    deny(connection, [row.family for row in rows if row.is_recent])


def _not_ended(user_id: int) -> tuple[ColumnElement[bool], ...]:
    return _COLUMNS.user_id == user_id, _COLUMNS.revoked_at.is_(None)


def _is_recent() -> ColumnElement[bool]:
    # Older logins have no access token any more, and nobody is still admitted by one of theirs (ADMITTED).
    recent: ColumnElement[bool] = _COLUMNS.issued_at > datetime.now(UTC) - KEPT
    return recent


def _revoke(connection: Connection, *which: ColumnElement[bool]) -> None:
    connection.execute(update(RefreshTokenRow).where(*which).values(revoked_at=datetime.now(UTC)))


def _digest(secret: str) -> str:
    return hashlib.sha256(secret.encode("utf-8", "replace")).hexdigest()
