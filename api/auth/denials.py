"""Writes the list of denied tokens, in the transaction of whatever ends them (docs/adr/0022)."""

import time
from collections.abc import Iterable
from datetime import timedelta

from sqlalchemy import Connection, func, text
from sqlalchemy.dialects.mysql import insert

from common.denied_tokens import KEPT
from common.tables import DeniedTokenRow
from common.tokens import Principal

OVERDUE = timedelta(hours=1)
"""How long a token is denied beyond its time: for clocks that are late, and for streams that are open.

A process that cannot ask the database meanwhile must read the name when it can again, to end those.
"""
_AT_ONCE = 500


def deny_token(connection: Connection, principal: Principal) -> None:
    """Let nobody in any more by one access token, whose name soon means nothing; never commits."""
    left = timedelta(seconds=principal.expires_at - time.time())
    deny(connection, [principal.token_id], kept=left + OVERDUE)


def deny(connection: Connection, names: Iterable[str], *, kept: timedelta = KEPT) -> None:
    """Let nobody in any more by these names of tokens, logins or keys for so long; never commits."""
    # By the database's clock, which is that of whoever looks for what is new.
    now = func.utc_timestamp(6)
    over = now + text(f"INTERVAL {int(kept.total_seconds())} SECOND")
    rows = [{"name": name, "denied_at": now, "expires_at": over} for name in sorted(set(names))]
    for start in range(0, len(rows), _AT_ONCE):
        statement = insert(DeniedTokenRow).values(rows[start : start + _AT_ONCE])
        connection.execute(statement.on_duplicate_key_update(expires_at=statement.inserted.expires_at))
