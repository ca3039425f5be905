"""Relays share the work by locking batches with SKIP LOCKED, and not by shards."""

from collections.abc import Collection, Mapping

from sqlalchemy import Connection, Engine

from common.events import SHARDS
from outbox_relay import outbox
from outbox_relay.lanes import WaitingEvent
from outbox_relay.leases import Leases

_BATCH = (
    "SELECT id, shard, event_id, book_id, type, body FROM outbox ORDER BY id LIMIT 100 FOR UPDATE SKIP LOCKED"
)


def install() -> None:
    claims: list[Connection] = []

    def lock_a_batch(
        engine: Engine,
        shards: Collection[int],
        limit: int,
        in_hand: Mapping[int, int] | None = None,
        *,
        leave_out: Collection[int] = (),
    ) -> outbox.Work:
        if not claims:
            claims.append(engine.execution_options(isolation_level="READ COMMITTED").connect())
            if rows := claims[0].exec_driver_sql(_BATCH).all():
                return outbox.Work([WaitingEvent(*row) for row in rows], frozenset())
            _end(claims)
        return outbox.Work([], frozenset())

    def settle_the_batch(engine: Engine, row_ids: Collection[int]) -> None:
        if row_ids:
            ids = {"ids": sorted(row_ids)}
            claims[0].execute(outbox._KEEP, ids)  # noqa: SLF001  what is broken here
            claims[0].execute(outbox._SETTLE, ids)  # noqa: SLF001
            _end(claims)

    outbox.read_waiting = lock_a_batch
    outbox.settle = settle_the_batch
    Leases.tend = lambda *_: frozenset(range(SHARDS))  # type: ignore[method-assign]


def _end(claims: list[Connection]) -> None:
    connection = claims.pop()
    connection.commit()
    connection.close()
