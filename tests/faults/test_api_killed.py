"""The API or its database is killed while clients write: what they were told is so, and nothing is half."""

import contextlib
import signal
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from devstack.process import Process
from devstack.stack import Stack
from tests.fixtures.journal import Journal, assert_whole, writing
from tests.fixtures.system import PASSWORD, SCOPES, USERNAME, System, system_environment
from tests.waiting import eventually

RECOVERY_SECONDS = 10
ROWS = 30_000


@pytest.fixture(scope="module")
def system(stack: Stack, limited_url: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[System]:
    """The API alone, as a process: no relay takes the events away."""
    folder: Path = tmp_path_factory.mktemp("killed")
    environment = system_environment(stack, limited_url, folder)
    found = System(environment)
    command = [sys.executable, "-m", "api", "serve"]
    found.services["api"] = Process("api", command, environment, folder / "api.log")
    scopes = [word for scope in SCOPES.split() for word in ("--scope", scope)]
    added = found.run("api", "user", "add", USERNAME, *scopes, "--password-stdin", text=PASSWORD + "\n")
    assert added.returncode == 0, added.stderr
    try:
        found.start("api")
        yield found
    finally:
        found.stop()


@pytest.fixture(scope="module")
def token(system: System) -> str:
    with system.client() as client:
        return client.headers["Authorization"].removeprefix("Bearer ")


def kill(process: Process) -> None:
    process.signal(signal.SIGKILL)
    process.stop()


def await_more(journal: Journal, count: int, within: float = 30) -> None:
    enough = len(journal.acknowledged) + count
    eventually(lambda: len(journal.acknowledged) >= enough, within=within, because="clients write")


def test_api_killed_during_requests_has_stored_whole_what_it_acknowledged(
    system: System, token: str, admin: Engine
) -> None:
    with writing(system.api_url, token) as journal:
        for _ in range(3):
            await_more(journal, 60)
            kill(system.services["api"])
            eventually(lambda: journal.lost)
            system.start("api")
    assert assert_whole(admin, journal) > 0


def test_api_killed_during_an_import_has_stored_whole_batches(
    system: System, token: str, admin: Engine
) -> None:
    before = assert_whole(admin)
    rows = ("title,author,publication_date\n" + "Dune,Frank Herbert,1965-08-01\n" * ROWS).encode()
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=system.api_url, timeout=60) as client:
        headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/csv"}
        post = partial(client.post, "/v1/books:import", content=rows, headers=headers)
        answer = pool.submit(post)
        eventually(lambda: assert_whole(admin) > before)
        kill(system.services["api"])
        with pytest.raises(httpx.TransportError):
            answer.result()
    stored = assert_whole(admin) - before
    assert 0 < stored < ROWS
    assert stored % 500 == 0
    system.start("api")


def test_import_that_is_sent_again_after_each_death_of_the_api_has_stored_every_line_once(
    system: System, token: str, admin: Engine
) -> None:
    before, key = assert_whole(admin), "an-import"
    rows = (
        "title,author,publication_date\n" + "".join(f"{n},killed,2000-01-01\n" for n in range(ROWS))
    ).encode()
    headers = {"Authorization": f"Bearer {token}", "Content-Type": "text/csv", "Idempotency-Key": key}
    with ThreadPoolExecutor() as pool, httpx.Client(base_url=system.api_url, timeout=60) as client:
        post = partial(client.post, "/v1/books:import", content=rows, headers=headers)
        stored = before
        for _ in range(2):
            answer = pool.submit(post)
            eventually(lambda at=stored: assert_whole(admin) > at)  # type: ignore[misc]
            kill(system.services["api"])
            with pytest.raises(httpx.TransportError):
                answer.result()
            stored = assert_whole(admin)
            assert stored < before + ROWS
            system.start("api")
        last, repeated = post(), post()
    assert last.json() == repeated.json() == {"accepted": ROWS, "rejected": 0, "errors": []}
    assert ("idempotent-replayed" in last.headers, repeated.headers["idempotent-replayed"]) == (False, "true")
    # One event for each book, and one book for each line.
    assert assert_whole(admin) == before + ROWS
    with admin.connect() as connection:
        query = text("SELECT title FROM book WHERE author = 'killed' ORDER BY id")
        assert connection.execute(query).scalars().all() == [str(number) for number in range(ROWS)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM], ids=["killed", "restarted"])
def test_database_killed_under_load_loses_and_halves_nothing_and_the_api_goes_on_by_itself(
    system: System, token: str, stack: Stack, number: signal.Signals, admin: Engine
) -> None:
    process = system.services["api"].pid
    database = stack.database.processes[-1]
    with writing(system.api_url, token) as journal:
        await_more(journal, 60)
        admin.dispose()
        database.signal(number)
        eventually(lambda: not database.running)
        eventually(lambda: journal.refused["/problems/database-unavailable"])
        eventually(lambda: system.readiness("api")[0] == 503)
        kill(database)
        stack.database.start()
        await_more(journal, 1, within=RECOVERY_SECONDS)
        eventually(lambda: system.is_ready("api"))
    assert_whole(admin, journal)
    assert journal.lost == 0
    assert (system.services["api"].pid, system.services["api"].running) == (process, True)


def test_connections_killed_by_the_operator_under_load_cost_no_change(
    system: System, token: str, admin: Engine, limited_url: str
) -> None:
    mine, user = (
        text("SELECT id FROM information_schema.processlist WHERE user = :user"),
        make_url(limited_url),
    )
    with writing(system.api_url, token) as journal, admin.connect() as other:
        for _ in range(10):
            await_more(journal, 10)
            for connection_id in other.execute(mine, {"user": user.username}).scalars().all():
                with contextlib.suppress(OperationalError):  # it has ended by itself since
                    other.exec_driver_sql(f"KILL {connection_id}")
    assert_whole(admin, journal)
    assert journal.lost == 0
