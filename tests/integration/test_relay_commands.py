"""The relay's operator commands, on a real database."""

import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine

from devstack.servers import free_port
from devstack.stack import Stack
from outbox_relay import history, holds, outbox
from outbox_relay.__main__ import main
from tests.fixtures.relay import write
from tests.fixtures.schema import new_database

Operator = Callable[..., tuple[int, str, str]]


@pytest.fixture
def operator(
    database_url: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> Operator:
    """Runs a command; exit code, output, what was said on standard error."""
    monkeypatch.setenv("DATABASE_URL", database_url)

    def run(*words: str) -> tuple[int, str, str]:
        code = main(list(words))
        return (code, *capsys.readouterr())

    return run


def hold(engine: Engine, book_id: int, times: int) -> str:
    """The id of the event that could not be sent so often."""
    work = outbox.read_waiting(engine, range(64), 10_000)
    event = next(event for event in work.events if event.book_id == book_id)
    for _ in range(times):
        holds.hold(engine, event, "312 NO_ROUTE")
    return event.event_id


def settle_all(engine: Engine) -> None:
    work = outbox.read_waiting(engine, range(64), 10_000)
    outbox.settle(engine, [event.row_id for event in work.events])


def test_status_of_an_empty_outbox_is_all_zero(operator: Operator) -> None:
    code, out, _ = operator("status")
    assert (code, out.split()) == (
        0,
        ["backlog", "0", "oldest", "-", "held", "0", "parked", "0", "rate", "0.0", "events/s"],
    )


def test_status_counts_what_waits_and_tells_held_books_from_parked_ones(
    relay_engine: Engine, operator: Operator
) -> None:
    write(relay_engine, [(1, 1), (2, 1), (2, 2), (3, 1)])
    hold(relay_engine, 1, times=1)
    hold(relay_engine, 2, times=holds.ATTEMPTS_BEFORE_PARKING)
    code, out, _ = operator("status")
    assert code == 0
    assert re.fullmatch(
        r"backlog  4\noldest   \d+\.\d s\nheld     1\nparked   1\nrate     0.0 events/s\n", out
    )


def test_parked_names_each_book_its_event_and_why_those_that_need_an_operator_first(
    relay_engine: Engine, operator: Operator
) -> None:
    write(relay_engine, [(1, 1), (2, 1), (2, 2)])
    first, second = hold(relay_engine, 1, times=2), hold(relay_engine, 2, holds.ATTEMPTS_BEFORE_PARKING)
    code, out, _ = operator("parked")
    parked, held = out.splitlines()
    assert code == 0
    assert parked == f"book 2: parked, 20 attempts, 2 events waiting, event {second}: 312 NO_ROUTE"
    pattern = (
        rf"book 1: next try \d\d:\d\d:\d\d UTC, 2 attempts, 1 events waiting, event {first}: 312 NO_ROUTE"
    )
    assert re.fullmatch(pattern, held)


def test_retry_releases_the_named_books_or_all(relay_engine: Engine, operator: Operator) -> None:
    write(relay_engine, [(book_id, 1) for book_id in (1, 2, 3)])
    for book_id in (1, 2, 3):
        hold(relay_engine, book_id, times=1)
    assert operator("retry", "2", "99")[:2] == (0, "released 1 books\n")
    assert holds.held_ids(relay_engine) == {1, 3}
    assert operator("retry")[:2] == (0, "released 2 books\n")
    assert len(outbox.read_waiting(relay_engine, range(64), 10).events) == 3


def test_retry_of_books_that_were_parked_during_a_replay_and_replayed_again_releases_all(
    relay_engine: Engine, operator: Operator
) -> None:
    write(relay_engine, [(1, 1), (2, 1)])
    settle_all(relay_engine)
    for put_back in (2, 0):
        assert operator("replay", "--all")[:2] == (0, f"put back {put_back} events\n")
        for event in outbox.read_waiting(relay_engine, range(64), 10).events:
            hold(relay_engine, event.book_id, holds.ATTEMPTS_BEFORE_PARKING)
        holds.move_aside(relay_engine)
    assert operator("retry")[:2] == (0, "released 2 books\n")
    assert len(outbox.read_waiting(relay_engine, range(64), 10).events) == 2


def test_replay_puts_back_what_its_dry_run_counts(relay_engine: Engine, operator: Operator) -> None:
    write(relay_engine, [(1, 1), (2, 1), (1, 2)])
    settle_all(relay_engine)
    chosen = ("replay", "--book", "1", "--since", "2026-01-31T09:30", "--type", "bookstore.book.updated.v1")
    assert operator(*chosen, "--dry-run")[:2] == (0, "would send 2 events\n")
    assert outbox.read_backlog(relay_engine).rows == 0
    assert operator(*chosen)[:2] == (0, "put back 2 events\n")
    assert outbox.read_backlog(relay_engine).rows == 2


def test_replay_that_does_not_say_which_events_is_asked_wrongly(operator: Operator) -> None:
    code, out, err = operator("replay")
    assert (code, out) == (2, "")
    assert "--all" in err


def test_purge_drops_the_days_that_its_dry_run_names(relay_engine: Engine, operator: Operator) -> None:
    today = history.today_utc(relay_engine)
    days = [today - timedelta(days=ago) for ago in (3, 2, 1)]
    history.make_days(relay_engine, days[0])
    write(relay_engine, [(1, 1), (1, 2)], at=datetime(days[0].year, days[0].month, days[0].day, tzinfo=UTC))
    settle_all(relay_engine)
    named = f"{days[0]}  2 events\n{days[1]}  0 events\n"
    assert operator("purge", "--older-than", "1", "--dry-run")[:2] == (0, f"{named}would drop 2 days\n")
    assert (history.days(relay_engine)[0], history.count_events(relay_engine, days[0])) == (days[0], 2)
    assert operator("purge", "--older-than", "1")[:2] == (0, f"{named}dropped 2 days\n")
    assert (history.days(relay_engine)[0], history.count_events(relay_engine, days[0])) == (days[2], 0)
    assert operator("purge", "--older-than", "1")[:2] == (0, "dropped 0 days\n")


@pytest.mark.parametrize("command", ["status", "parked", "retry"])
@pytest.mark.parametrize(
    ("url", "sentence"),
    [
        ("", "DATABASE_URL: Field required"),
        ("nonsense", "DATABASE_URL is not a URL"),
        ("nobody", "The database cannot be reached."),
    ],
)
def test_database_that_cannot_be_asked_is_one_sentence(
    operator: Operator, monkeypatch: pytest.MonkeyPatch, command: str, url: str, sentence: str
) -> None:
    nobody = f"mysql://somebody:secret@127.0.0.1:{free_port()}/bookstore"
    monkeypatch.setenv("DATABASE_URL", nobody if url == "nobody" else url)
    code, out, err = operator(command)
    assert (code, out) == (1, "")
    [said] = err.splitlines()
    assert sentence in said
    assert "secret" not in said


@pytest.mark.parametrize("command", ["status", "parked", "retry"])
def test_database_without_a_schema_is_one_sentence(
    operator: Operator, stack: Stack, monkeypatch: pytest.MonkeyPatch, command: str
) -> None:
    with new_database(stack) as url:
        monkeypatch.setenv("DATABASE_URL", url)
        code, out, err = operator(command)
    assert (code, out) == (1, "")
    [said] = err.splitlines()
    assert "run `python -m alembic -c setup.cfg upgrade head`" in said
