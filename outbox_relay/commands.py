"""What operators ask of the outbox; each command prints what it found or did."""

from datetime import timedelta

from sqlalchemy import Engine

from outbox_relay import history, holds
from outbox_relay import replay as replays
from outbox_relay.leases import list_relays
from outbox_relay.outbox import read_backlog
from outbox_relay.replay import Selection


def status(engine: Engine) -> None:
    """Print the backlog and the held books in numbers, and each relay with its shards and its rate."""
    backlog = read_backlog(engine)
    held = holds.list_held(engine)
    relays = list_relays(engine)
    age = "-" if backlog.oldest_unsent_seconds is None else f"{backlog.oldest_unsent_seconds:.1f} s"
    print(f"backlog  {backlog.rows}")
    print(f"oldest   {age}")
    print(f"held     {sum(book.next_try_at is not None for book in held)}")
    print(f"parked   {sum(book.next_try_at is None for book in held)}")
    print(f"rate     {sum(relay.events_per_second for relay in relays):.1f} events/s")
    for relay in relays:
        trouble = f", events do not get through: {relay.trouble}" if relay.trouble else ""
        print(
            f"relay    {relay.owner}: {relay.shards} shards, {relay.events_per_second:.1f} events/s{trouble}"
        )


def parked(engine: Engine) -> None:
    """Print the books whose events could not be sent, those that wait for an operator first."""
    for book in holds.list_held(engine):
        state = "parked" if book.next_try_at is None else f"next try {book.next_try_at:%H:%M:%S} UTC"
        print(
            f"book {book.book_id}: {state}, {book.attempts} attempts, {book.waiting} events waiting,"
            f" event {book.event_id}: {book.last_error}"
        )


def retry(engine: Engine, book_ids: list[int]) -> None:
    """Let the relays send the events of held books again, in order."""
    chosen = book_ids or [book.book_id for book in holds.list_held(engine)]
    print(f"released {holds.release(engine, chosen)} books")


def replay(engine: Engine, selection: Selection, *, dry_run: bool) -> None:
    """Send past events again."""
    count = replays.replay(engine, selection, dry_run=dry_run)
    print(f"{'would send' if dry_run else 'put back'} {count} events")


def purge(engine: Engine, older_than: timedelta, *, dry_run: bool) -> None:
    """Drop the history of the days before `older_than`, day by whole day."""
    before = history.today_utc(engine) - older_than
    old = [day for day in history.days(engine) if day < before]
    for day in old:
        print(f"{day}  {history.count_events(engine, day)} events")
    dropped = [] if dry_run else history.drop_days(engine, before)
    print(f"would drop {len(old)} days" if dry_run else f"dropped {len(dropped)} days")
