from hypothesis import given
from hypothesis import strategies as st

from grpc_reader.arrival import Arrival, understand
from grpc_reader.sequence import plan
from tests.fixtures.reader import make_event


def arrival(book_id: int, version: int) -> Arrival:
    return understand(make_event(book_id, version))


def keys(arrivals: list[Arrival]) -> list[tuple[int, int]]:
    return [(each.book_id, each.version) for each in arrivals]


def test_a_first_event_is_recorded_and_its_repeat_in_the_same_batch_is_not() -> None:
    event = arrival(1, 1)
    found = plan([event, event], {}, [], {})
    assert keys(found.recorded) == [(1, 1)]
    assert keys(found.repeated) == [(1, 1)]


def test_an_event_at_or_below_the_last_version_is_a_repeat() -> None:
    found = plan([arrival(1, 1), arrival(1, 2), arrival(1, 3)], {1: 2}, [], {})
    assert keys(found.repeated) == [(1, 1), (1, 2)]
    assert keys(found.recorded) == [(1, 3)]


def test_an_event_whose_version_another_one_has_is_no_repeat() -> None:
    first, twin, waiting = arrival(1, 1), arrival(1, 1), arrival(1, 3)
    assert plan([first, twin], {}, [], {}).rivals == [twin]
    ids = {(1, 1): str(first.event.id), (1, 3): str(waiting.event.id)}
    found = plan([twin, first, waiting, arrival(1, 3)], {1: 1}, [], ids)
    assert keys(found.rivals) == [(1, 1), (1, 3)]
    assert found.repeated == [first, waiting]
    assert found.recorded == found.waiting == []


def test_an_event_beyond_the_next_one_waits() -> None:
    found = plan([arrival(1, 3), arrival(2, 1)], {1: 1}, [], {})
    assert keys(found.waiting) == [(1, 3)]
    assert keys(found.recorded) == [(2, 1)]


def test_waiting_events_follow_the_missing_one_and_leave_their_table() -> None:
    found = plan([arrival(1, 2)], {1: 1}, [arrival(1, 4), arrival(1, 3), arrival(1, 6)], {})
    assert keys(found.recorded) == [(1, 2), (1, 3), (1, 4)]
    assert sorted(keys(found.settled)) == [(1, 3), (1, 4)]
    assert found.waiting == []


def test_an_event_that_waits_already_is_a_repeat() -> None:
    event = arrival(1, 3)
    found = plan([event], {1: 1}, [], {(1, 3): str(event.event.id)})
    assert keys(found.repeated) == [(1, 3)]
    assert found.waiting == []


def test_a_gap_that_closes_within_the_batch_never_waits() -> None:
    found = plan([arrival(1, 2), arrival(1, 1)], {}, [], {})
    assert keys(found.recorded) == [(1, 1), (1, 2)]
    assert found.waiting == []
    assert found.settled == []


# Each book and version twice, under two ids: whichever comes first is the genuine one.
EVENTS = {
    (book_id, version, twin): arrival(book_id, version)
    for book_id in (1, 2, 3)
    for version in range(1, 7)
    for twin in (False, True)
}


@given(st.lists(st.lists(st.sampled_from(sorted(EVENTS)), max_size=8), max_size=12))
def test_whatever_the_order_each_book_is_recorded_once_without_gaps_and_without_rivals(
    batches: list[list[tuple[int, int, bool]]],
) -> None:
    last: dict[int, int] = {}
    waiting: dict[tuple[int, int], Arrival] = {}
    genuine: dict[tuple[int, int], Arrival] = {}
    for names in batches:
        batch = [EVENTS[name] for name in names]
        known = {key: str(genuine[key].event.id) for key in keys(batch) if key in genuine}
        for event in batch:
            genuine.setdefault((event.book_id, event.version), event)
        found = plan(batch, last, list(waiting.values()), known)
        assert found.rivals == [
            event for event in batch if event is not genuine[event.book_id, event.version]
        ]
        for event in found.recorded + found.waiting + found.settled:
            assert event is genuine[event.book_id, event.version]
        for book_id, version in keys(found.recorded):
            assert version == last.get(book_id, 0) + 1
            last[book_id] = version
        waiting |= dict(zip(keys(found.waiting), found.waiting, strict=True))
        for key in keys(found.settled):
            del waiting[key]
        others = (found.repeated, found.rivals, found.recorded, found.waiting)
        assert len(batch) == sum(map(len, others)) - len(found.settled)
    for book_id in (1, 2, 3):
        reachable = next(v for v in range(1, 8) if (book_id, v) not in genuine) - 1
        assert last.get(book_id, 0) == reachable
        assert {v for b, v in waiting if b == book_id} == {
            v for b, v in genuine if b == book_id and v > reachable
        }
