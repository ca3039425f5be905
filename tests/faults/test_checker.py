"""The checker is fed a clean history, and the same one with each promise broken in it."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from tests.faults.checker import Kind, check
from tests.faults.evidence import Change, Event, Evidence, Outcome, Reading

CREATED = Event("a", 1, 1, "created", "one")
CHANGED = Event("b", 1, 2, "updated", "two")
DELETED = Event("c", 1, 3, "deleted", "two")
OTHER = Event("d", 2, 1, "created", "three")
FOREIGN = Event("e", 3, 1, "created", "never committed")
ALL = (CREATED, CHANGED, DELETED, OTHER)

CLEAN = Evidence(
    changes=(
        Change("create", "acknowledged", 1, 1, "one"),
        Change("change", "acknowledged", 1, 2, "two"),
        Change("delete", "acknowledged", 1),
        Change("create", "unknown", title="three"),
        Change("create", "unknown", title="four"),
        Change("change", "refused", 2, title="five"),
    ),
    readings=(Reading(1, 1, 1), Reading(1, 1, 2), Reading(1, 3, None), Reading(1, 2, None)),
    books=((2, 1, "three"),),
    sent=ALL,
    wire=(CREATED, CHANGED, CREATED, OTHER, DELETED, CHANGED),
    record=(CREATED, OTHER, CHANGED, DELETED),
)


def kinds(evidence: Evidence) -> list[tuple[Kind, int | None]]:
    return [(violation.kind, violation.book_id) for violation in check(evidence)]


def test_clean_history_with_repeats_and_unknown_answers_has_no_violation() -> None:
    assert check(CLEAN) == []


def test_event_that_is_parked_is_not_lost() -> None:
    parked = replace(CLEAN, sent=(CREATED, CHANGED, OTHER), parked=(DELETED,), wire=ALL[:2], record=ALL[:2])
    assert kinds(replace(parked, wire=(*parked.wire, OTHER), record=(*parked.record, OTHER))) == []


@pytest.mark.parametrize("outcome", ["acknowledged", "unknown"])
def test_refused_deletion_of_a_book_that_another_call_may_have_deleted_is_right(outcome: Outcome) -> None:
    deletions = (Change("delete", outcome, 1), Change("delete", "refused", 1))
    assert check(replace(CLEAN, changes=(*CLEAN.changes[:2], *deletions, *CLEAN.changes[3:]))) == []


BROKEN: dict[str, tuple[Callable[[Evidence], Evidence], list[tuple[Kind, int | None]]]] = {
    "an acknowledged change without event": (
        lambda clean: replace(
            clean, changes=(*clean.changes, Change("change", "acknowledged", 2, 2, "no event"))
        ),
        [(Kind.LOST, 2)],
    ),
    "an acknowledged change whose version is another's": (
        lambda clean: replace(
            clean, changes=(*clean.changes, Change("create", "acknowledged", 2, 1, "not three"))
        ),
        [(Kind.LOST, 2)],
    ),
    "an acknowledged deletion without event": (
        lambda clean: replace(clean, changes=(*clean.changes, Change("delete", "acknowledged", 2))),
        [(Kind.LOST, 2)],
    ),
    "an event that was never recorded": (
        lambda clean: replace(clean, record=(CREATED, CHANGED, DELETED)),
        [(Kind.LOST, 2)],
    ),
    "an event that never left the outbox": (
        lambda clean: replace(
            clean, sent=ALL[:3], outbox=(OTHER,), wire=ALL[:3], record=(CREATED, CHANGED, DELETED)
        ),
        [(Kind.LOST, 2)],
    ),
    "an event on the wire whose change was not committed": (
        lambda clean: replace(clean, wire=(*clean.wire, FOREIGN)),
        [(Kind.UNCOMMITTED, 3)],
    ),
    "a recorded event whose change was not committed": (
        lambda clean: replace(clean, record=(*clean.record, FOREIGN)),
        [(Kind.UNCOMMITTED, 3)],
    ),
    "a refused change that was made": (
        lambda clean: replace(clean, changes=(Change("create", "refused", title="three"),)),
        [(Kind.REFUSED, 2)],
    ),
    "a refused deletion that was made": (
        lambda clean: replace(
            clean, changes=(*clean.changes[:2], *[Change("delete", "refused", 1)] * 2, *clean.changes[3:])
        ),
        [(Kind.REFUSED, 1)],
    ),
    "another title on the wire": (
        lambda clean: replace(clean, wire=(*clean.wire, replace(CHANGED, title="spoilt"))),
        [(Kind.ALTERED, 1)],
    ),
    "another body in the record": (
        lambda clean: replace(clean, record=(replace(CREATED, body="spoilt"), *clean.record[1:])),
        [(Kind.ALTERED, 1)],
    ),
    "another id of the book in the record": (
        lambda clean: replace(clean, record=(*clean.record[:3], replace(DELETED, book_id=2, version=2))),
        [(Kind.ALTERED, 1)],
    ),
    "another event in the outbox than in the history": (
        lambda clean: replace(clean, outbox=(replace(OTHER, title="spoilt"),)),
        [(Kind.ALTERED, 2)],
    ),
    "an event recorded twice": (
        lambda clean: replace(clean, record=(*clean.record, CHANGED)),
        [(Kind.TWICE, 1)],
    ),
    "first appearances on the wire out of order": (
        lambda clean: replace(clean, wire=(CHANGED, CREATED, CHANGED, DELETED, OTHER)),
        [(Kind.WIRE_ORDER, 1)],
    ),
    "a record out of order": (
        lambda clean: replace(clean, record=(CREATED, DELETED, OTHER, CHANGED)),
        [(Kind.RECORD_ORDER, 1)],
    ),
    "a version that is missing everywhere": (
        lambda clean: replace(
            clean,
            changes=(),
            readings=(),
            sent=(CREATED, DELETED, OTHER),
            wire=(CREATED, DELETED, OTHER),
            record=(CREATED, DELETED, OTHER),
        ),
        [(Kind.GAP, 1)] * 3,
    ),
    "a book that changed without event": (
        lambda clean: replace(clean, books=((2, 2, "changed silently"),)),
        [(Kind.HALF, 2)],
    ),
    "a book without event": (
        lambda clean: replace(clean, books=(*clean.books, (4, 1, "silent"))),
        [(Kind.HALF, 4)],
    ),
    "an event without book": (lambda clean: replace(clean, books=()), [(Kind.HALF, 2)]),
    "a deleted book that is still there": (
        lambda clean: replace(clean, books=(*clean.books, (1, 3, "two"))),
        [(Kind.HALF, 1)],
    ),
    "an answer older than the record": (
        lambda clean: replace(clean, readings=(Reading(1, 2, 1),)),
        [(Kind.STALE, 1)],
    ),
    "an answer that shows a deleted book": (
        lambda clean: replace(clean, readings=(Reading(1, 3, 2),)),
        [(Kind.STALE, 1)],
    ),
    "an answer that is newer than the book": (
        lambda clean: replace(clean, readings=(Reading(2, 1, 2),)),
        [(Kind.INVENTED, 2)],
    ),
    "an answer that shows the version of the deletion": (
        lambda clean: replace(clean, readings=(Reading(1, 2, 3),)),
        [(Kind.INVENTED, 1)],
    ),
    "an answer that denies a book": (
        lambda clean: replace(clean, readings=(Reading(2, 1, None),)),
        [(Kind.STALE, 2)],
    ),
}


@pytest.mark.parametrize(("spoil", "expected"), BROKEN.values(), ids=BROKEN)
def test_each_broken_promise_is_found_and_nothing_else(
    spoil: Callable[[Evidence], Evidence], expected: list[tuple[Kind, int | None]]
) -> None:
    assert kinds(spoil(CLEAN)) == expected


def test_evidence_of_later_books_leaves_out_the_earlier_ones() -> None:
    spoilt = replace(CLEAN, wire=(CHANGED, CREATED, OTHER), record=())
    assert {book_id for _, book_id in kinds(spoilt)} == {1, 2}
    assert {book_id for _, book_id in kinds(spoilt.of_books_after(1))} == {2}
