"""Which relay works on which shard. Leases save work; order and safety do not rest on them."""

import math
from dataclasses import dataclass

from sqlalchemy import Engine, text

from common.database import transaction
from common.events import SHARDS

LEASE_SECONDS = 3
_NOW = "UTC_TIMESTAMP(6)"
_UNTIL = f"{_NOW} + INTERVAL {LEASE_SECONDS} SECOND"
# What lies so far ahead was written before the database's clock stepped back, perhaps by one who is dead.
_TOO_FAR = f"{_NOW} + INTERVAL {2 * LEASE_SECONDS} SECOND"
_LIVES = f"seen_at > {_NOW} - INTERVAL {LEASE_SECONDS} SECOND AND seen_at <= {_TOO_FAR}"
_SEED = "INSERT IGNORE INTO shard_lease (shard, owner, expires_at) VALUES " + ", ".join(
    f"({shard}, '', '2000-01-01')" for shard in range(SHARDS)
)
_SEEN = text(
    "INSERT INTO relay (owner, seen_at, events_per_second, trouble)"
    f" VALUES (:me, {_NOW}, :rate, :trouble)"
    f" ON DUPLICATE KEY UPDATE seen_at = {_NOW}, events_per_second = :rate, trouble = :trouble"
)
_BURY = f"DELETE FROM relay WHERE seen_at < {_NOW} - INTERVAL 60 SECOND OR seen_at > {_TOO_FAR}"
_COUNT = f"SELECT COUNT(*) FROM relay WHERE {_LIVES}"
_RENEW = text(f"UPDATE shard_lease SET expires_at = {_UNTIL} WHERE owner = :me AND expires_at > {_NOW}")
_TAKE = text(
    f"UPDATE shard_lease SET owner = :me, expires_at = {_UNTIL}"
    f" WHERE expires_at <= {_NOW} OR expires_at > {_TOO_FAR} ORDER BY shard LIMIT :count"
)
_GIVE = text(
    f"UPDATE shard_lease SET expires_at = {_NOW} WHERE owner = :me AND expires_at > {_NOW}"
    " ORDER BY shard DESC LIMIT :count"
)
_MINE = text(f"SELECT shard FROM shard_lease WHERE owner = :me AND expires_at > {_NOW}")
_RELAYS = (
    "SELECT r.owner, r.events_per_second, r.trouble, (SELECT COUNT(*) FROM shard_lease l"
    f" WHERE l.owner = r.owner AND l.expires_at > {_NOW}) FROM relay r"
    f" WHERE {_LIVES} ORDER BY r.owner"
)
_LEAVE = text("DELETE FROM relay WHERE owner = :me")


@dataclass(frozen=True)
class LiveRelay:
    """A relay that was heard of within the last three seconds."""

    owner: str
    events_per_second: float
    trouble: str
    shards: int


def list_relays(engine: Engine) -> list[LiveRelay]:
    """All relays that live."""
    with transaction(engine) as connection:
        return [LiveRelay(*row) for row in connection.exec_driver_sql(_RELAYS)]


class Leases:
    """The shards of one relay, in database time.

    Every step is one statement in autocommit: a relay that is frozen between two of them holds no lock that
    could keep the others from taking over.
    """

    def __init__(self, engine: Engine, owner: str) -> None:
        self._engine = engine
        self._me = {"me": owner}

    def seed(self) -> None:
        """Make the rows of all shards, where they are not there yet."""
        with transaction(self._engine) as connection:
            connection.exec_driver_sql(_SEED)

    def tend(self, events_per_second: float = 0.0, trouble: str = "") -> frozenset[int]:
        """Renew, share and take over; call it every second. Returns the shards of this relay now.

        What it sends a second, and why events do not get through, is noted beside its name, for `status`.
        """
        with transaction(self._engine) as connection:
            connection.execute(_SEEN, {**self._me, "rate": events_per_second, "trouble": trouble[:200]})
            connection.exec_driver_sql(_BURY)
            share = math.ceil(SHARDS / max(1, connection.exec_driver_sql(_COUNT).scalar_one()))
            held = connection.execute(_RENEW, self._me).rowcount
            if held < share:
                connection.execute(_TAKE, {**self._me, "count": share - held})
            elif held > share:
                connection.execute(_GIVE, {**self._me, "count": held - share})
            return frozenset(connection.execute(_MINE, self._me).scalars())

    def leave(self) -> None:
        """Give all shards back, so that the others need not wait for the leases to run out."""
        with transaction(self._engine) as connection:
            connection.execute(_GIVE, {**self._me, "count": SHARDS})
            connection.execute(_LEAVE, self._me)
