"""Writes the list of denied tokens, in the transaction of whatever ends them (docs/adr/0022)."""

from collections.abc import Iterable

from sqlalchemy import Connection, func, text
from sqlalchemy.dialects.mysql import insert

from common.denied_tokens import KEPT
from common.tables import DeniedTokenRow

_AT_ONCE = 500


def deny(connection: Connection, names: Iterable[str]) -> None:
    """Let nobody in any more by these names of tokens, logins or keys; never commits."""
    # By the database's clock, which is that of whoever looks for what is new.
    now = func.utc_timestamp(6)
    over = now + text(f"INTERVAL {int(KEPT.total_seconds())} SECOND")
    rows = [{"name": name, "denied_at": now, "expires_at": over} for name in sorted(set(names))]
    for start in range(0, len(rows), _AT_ONCE):
        statement = insert(DeniedTokenRow).values(rows[start : start + _AT_ONCE])
        connection.execute(statement.on_duplicate_key_update(expires_at=statement.inserted.expires_at))
