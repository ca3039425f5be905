"""A book's next event is sent before the one before it was confirmed."""

from collections.abc import Iterable
from weakref import WeakKeyDictionary

from outbox_relay.lanes import Lanes, WaitingEvent


def install() -> None:
    forget = Lanes.forget
    sent: WeakKeyDictionary[Lanes, set[int]] = WeakKeyDictionary()

    def next_of_any(self: Lanes, *, doubtful: bool = False) -> WaitingEvent | None:
        lanes = () if doubtful else self._lanes.values()
        for lane in lanes:
            for event in lane:
                if event.row_id not in sent.setdefault(self, set()):
                    sent[self].add(event.row_id)
                    return event
        return None

    def forget_sent(self: Lanes, row_ids: Iterable[int]) -> None:
        rows = list(row_ids)
        sent.setdefault(self, set()).difference_update(rows)
        forget(self, rows)

    Lanes.next_head = next_of_any  # type: ignore[method-assign]
    Lanes.forget = forget_sent  # type: ignore[method-assign]
