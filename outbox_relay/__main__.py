import sys

if __name__ == "__main__" and sys.argv[1:2] == ["serve"]:
    # The imports below take a second, in which the process would die of a signal.
    from common import interrupts

    interrupts.end_at_once()

import argparse
import os
import secrets
import socket
from datetime import UTC, datetime, timedelta
from typing import get_args

from pydantic import ValidationError
from sqlalchemy import Engine
from sqlalchemy.exc import ProgrammingError

from common import interrupts
from common.database import thread_engine
from common.errors import BookstoreError, StartError
from common.events import EventType
from common.logs import configure_logging
from common.retry import retry
from common.schema import MIGRATE, await_known_schema
from common.settings import DatabaseSettings, explain
from outbox_relay import commands
from outbox_relay.health import Health
from outbox_relay.keeper import HistoryKeeper
from outbox_relay.leases import Leases
from outbox_relay.metrics import RelayMetrics
from outbox_relay.relay import STATEMENT_SECONDS, Relay
from outbox_relay.replay import Selection
from outbox_relay.session import BrokerSession
from outbox_relay.settings import RelaySettings
from outbox_relay.stopping import Stop


def serve() -> None:
    """Relay until SIGTERM or SIGINT."""
    interrupts.end_at_once()
    settings = RelaySettings()
    configure_logging(settings.log_level)
    engine = thread_engine(settings, autocommit=True, pool_size=4, read_timeout=STATEMENT_SECONDS)
    await_known_schema(engine)
    owner = f"{socket.gethostname()[:40]}-{os.getpid()}-{secrets.token_hex(4)}"
    leases = Leases(engine, owner)
    # Several relays that begin at once may be in each other's way.
    retry(times=5, delay=0.2, exceptions=BookstoreError)(leases.seed)()
    stop, metrics = Stop(), RelayMetrics()

    def connect() -> BrokerSession:
        return BrokerSession(settings, f"outbox relay {owner}", stop.wake_up)

    relay = Relay(engine, leases, connect, metrics, settings.relay_window)
    keeper = HistoryKeeper(engine, settings.relay_history_days)
    health = Health(settings, engine, relay, metrics)
    stop.listen()
    health.start()
    keeper.start()
    try:
        relay.run(stop)
    finally:
        keeper.close()
        health.close()
        engine.dispose()
        stop.close()


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="python -m outbox_relay", description="Outbox to RabbitMQ.")
    names = parser.add_subparsers(dest="command", required=True)
    names.add_parser("serve", help="relay until SIGTERM")
    names.add_parser("status", help="show backlog, oldest age, held and parked books, relays and rates")
    names.add_parser("parked", help="list the books whose events cannot be sent")
    again = names.add_parser("retry", help="send the events of held and parked books again")
    again.add_argument("book_ids", nargs="*", type=int, metavar="BOOK_ID", help="default: all of them")
    replay = names.add_parser("replay", help="send past events again, under their old ids")
    replay.add_argument("--book", action="append", type=int, default=[], metavar="ID", help="repeatable")
    replay.add_argument("--since", type=_moment, metavar="TIME", help="changes from then on (ISO 8601, UTC)")
    replay.add_argument("--until", type=_moment, metavar="TIME", help="changes before then")
    replay.add_argument("--type", choices=get_args(EventType), help="only events of this type")
    replay.add_argument("--all", action="store_true", help="every event that is kept")
    purge = names.add_parser("purge", help="drop the history of old days")
    purge.add_argument("--older-than", type=_days, required=True, metavar="DAYS", help="0 keeps today")
    for command in (replay, purge):
        command.add_argument("--dry-run", action="store_true", help="only say what would be done")
    return parser


def _moment(text: str) -> datetime:
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _days(text: str) -> timedelta:
    days = int(text)
    if days < 0:
        raise ValueError(text)
    return timedelta(days=days)


def _operate(chosen: argparse.Namespace, engine: Engine) -> int:
    if chosen.command == "status":
        commands.status(engine)
    elif chosen.command == "parked":
        commands.parked(engine)
    elif chosen.command == "retry":
        commands.retry(engine, chosen.book_ids)
    elif chosen.command == "purge":
        commands.purge(engine, chosen.older_than, dry_run=chosen.dry_run)
    else:
        selection = Selection(tuple(chosen.book), chosen.since, chosen.until, chosen.type)
        if selection == Selection() and not chosen.all:
            print("Say which events: --book, --since, --until, --type, or --all.", file=sys.stderr)
            return 2
        commands.replay(engine, selection, dry_run=chosen.dry_run)
    return 0


def main(arguments: list[str] | None = None) -> int:
    """Run one command.

    0: done. 1: it could not be done, and a sentence on standard error says why. 2: it was asked wrongly.
    """
    chosen = _parser().parse_args(arguments)
    try:
        if chosen.command == "serve":
            serve()
            return 0
        engine = thread_engine(DatabaseSettings(), autocommit=True)
        try:
            return _operate(chosen, engine)
        finally:
            engine.dispose()
    except ValidationError as error:
        print(explain(error), file=sys.stderr)
        return 1
    except (StartError, BookstoreError) as error:
        print(error, file=sys.stderr)
        return 1
    except ProgrammingError:  # 1146 or 1054: a table or column is not there
        print(f"The database does not have the schema of this code: {MIGRATE}.", file=sys.stderr)
        return 1


if __name__ == "__main__":
    sys.exit(main())
