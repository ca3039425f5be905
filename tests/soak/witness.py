"""`make witness`: writes to a running `make up` while somebody breaks it, and judges what came of it.

Exit codes: 0 no violation, 1 at least one, 2 not all was sent and recorded within three minutes.
"""

import argparse
import contextlib
import os
import sys
import threading
import time
from collections import Counter
from pathlib import Path

import httpx
from sqlalchemy import Engine, text

from common.database import thread_engine, transaction
from common.errors import BookstoreError
from common.settings import BrokerSettings, DatabaseSettings
from devstack.stack import STATE
from grpc_reader.client import Client as GrpcClient
from tests.faults.checker import check
from tests.faults.collecting import collect
from tests.faults.journal import Journal
from tests.faults.rest_client import RestClient
from tests.faults.workload import Readings, Workload, running
from tests.fixtures.relay import backlog
from tests.soak.tap import LastingTap

_HOT_BOOKS = 5
_REST_SECONDS = 180.0
_RECORDED = text("SELECT COUNT(*) FROM delivered_event WHERE book_id = :book")


def witness(minutes: float, folder: Path) -> int:
    """Write for so long, or until Ctrl-C, and print a line each second; the exit code."""
    url = os.environ["API_URL"]
    authorization = f"Bearer {_token(url)}"
    (folder / "journal.jsonl").unlink(missing_ok=True)
    journal = Journal(folder / "journal.jsonl")
    engine = thread_engine(DatabaseSettings.from_environment(), autocommit=True, pool_size=4)
    with (
        contextlib.closing(LastingTap(BrokerSettings.from_environment())) as tap,
        contextlib.closing(RestClient(url, authorization, journal)) as rest,
        GrpcClient(f"127.0.0.1:{os.environ['GRPC_PORT']}", authorization.split()[1]) as grpc,
    ):
        tap.start()
        # What was there before is not judged: nobody wrote down what its writers were told.
        before = rest.create().book_id or 0
        hot = [change.book_id for change in (rest.create() for _ in range(_HOT_BOOKS)) if change.book_id]
        workload = Workload(
            lambda: RestClient(url, authorization, journal), Readings(rest, grpc, engine, journal), hot
        )
        with contextlib.suppress(KeyboardInterrupt), running(workload):
            _tell(engine, journal, minutes * 60)
        print("No more is written; waiting until all is sent and recorded ...", flush=True)
        at_rest = _rest(engine, rest, tap)
        evidence = collect(journal, engine, tap.published).of_books_after(before)
        tap.remove()
    violations = check(evidence)
    for violation in violations:
        print(f"{violation.kind.name}, book {violation.book_id}: {violation.sentence}")
    told = Counter(change.outcome for change in evidence.changes)
    print(
        f"{told['acknowledged']} changes acknowledged, {told['unknown']} unknown, {told['refused']} refused;"
        f" {len(evidence.record)} events recorded; {len(violations)} violations"
    )
    return 1 if violations else 0 if at_rest else 2


def _token(url: str) -> str:
    form = {
        "grant_type": "password",
        "username": os.environ["DEMO_USERNAME"],
        "password": os.environ["DEMO_PASSWORD"],
    }
    answer = httpx.post(f"{url}/v1/auth/token", data=form).raise_for_status()
    return str(answer.json()["access_token"])


def _tell(engine: Engine, journal: Journal, seconds: float) -> None:
    begun, pause = time.monotonic(), threading.Event()
    while (passed := time.monotonic() - begun) < seconds:
        try:
            waiting = f"{backlog(engine)} events wait"
        except BookstoreError:
            waiting = "no answer from the database"
        print(f"{passed:6.0f} s  {journal.changes} calls, {waiting}", flush=True)
        pause.wait(1)


def _rest(engine: Engine, rest: RestClient, tap: LastingTap) -> bool:
    deadline, pause, last = time.monotonic() + _REST_SECONDS, threading.Event(), 0
    while time.monotonic() < deadline:
        with contextlib.suppress(BookstoreError):
            last = last or (rest.create().book_id or 0)
            with transaction(engine) as connection:
                recorded = connection.execute(_RECORDED, {"book": last}).scalar_one()
            if last and recorded and backlog(engine) == 0:
                return tap.await_all(_REST_SECONDS)
        pause.wait(0.5)
    return False


def main() -> int:
    """Do it as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak.witness", description=__doc__)
    parser.add_argument("--minutes", type=float, default=5, help="at most 14, for so long a login lasts")
    chosen = parser.parse_args()
    folder = STATE / "witness"
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    return witness(chosen.minutes, folder)


if __name__ == "__main__":
    sys.exit(main())
