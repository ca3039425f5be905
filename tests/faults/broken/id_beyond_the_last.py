"""The relay reads what comes after the last id that it saw."""

from collections.abc import Collection, Mapping
from dataclasses import replace

from sqlalchemy import Engine

from outbox_relay import outbox


def install() -> None:
    read_waiting = outbox.read_waiting
    last = 0

    def read_after_the_last(
        engine: Engine,
        shards: Collection[int],
        limit: int,
        in_hand: Mapping[int, int] | None = None,
        *,
        leave_out: Collection[int] = (),
    ) -> outbox.Work:
        nonlocal last
        work = read_waiting(engine, shards, limit, in_hand, leave_out=leave_out)
        new = [event for event in work.events if event.row_id > last]
        last = max([last, *(event.row_id for event in new)])
        return replace(work, events=new)

    outbox.read_waiting = read_after_the_last
