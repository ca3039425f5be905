"""A body of any length goes in, and all books come out, in memory that does not grow with them."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import psutil
import pytest

from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import thread_engine
from common.tokens import SCOPES
from tests.fixtures.api import PASSWORD
from tests.fixtures.schema import database_settings
from tests.fixtures.system_services import Starter
from tests.waiting import eventually

MIB = 2**20
HEADER = b"title,author,publication_date\n"
GOOD = b"%b,%b,1965-08-01\n" % (b"t" * 300, b"a" * 1000)
BAD = b"%b,%b,1965-8-1\n" % (b"t" * 300, b"a" * 1000)
# Many times what was measured (1 MiB), half of what a body or an export is.
GROWTH_MAX_BYTES = 16 * MIB
ROWS = 32 * MIB // len(GOOD)


def body(rows: int, *kinds: bytes) -> Iterator[bytes]:
    yield HEADER
    for _ in range(rows // 100 // len(kinds)):
        for row in kinds:
            yield row * 100


@contextmanager
def flat(process: psutil.Process) -> Iterator[None]:
    """The process needs hardly more memory at any moment of the block than before it."""
    before, peak, done = process.memory_info().rss, [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.05):
            peak[0] = max(peak[0], process.memory_info().rss)

    watching = threading.Thread(target=watch)
    watching.start()
    try:
        yield
    finally:
        done.set()
        watching.join()
    assert 0 < peak[0] < before + GROWTH_MAX_BYTES, f"{(peak[0] - before) / MIB:.0f} MiB more"


@pytest.mark.timeout(300)
def test_imports_and_exports_are_streamed(start: Starter, database_url: str) -> None:
    engine = thread_engine(database_settings(database_url))
    add_user(engine, "ada", Passwords().hash(PASSWORD), list(SCOPES))
    engine.dispose()
    service = start("api")
    eventually(lambda: service.ready, within=20)
    process = psutil.Process(service.process.pid)
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
    with httpx.Client(base_url=service.url, timeout=120) as client:
        answer = client.post("/v1/auth/token", data=form).raise_for_status()
        client.headers["Authorization"] = f"Bearer {answer.json()['access_token']}"
        client.headers["Content-Type"] = "text/csv"

        def imported(rows: int, *kinds: bytes) -> tuple[int, int]:
            report = client.post("/v1/books:import", content=body(rows, *kinds)).raise_for_status().json()
            return report["accepted"], report["rejected"]

        def exported() -> int:
            with client.stream("GET", "/v1/books:export") as export:
                return sum(map(len, export.iter_bytes()))

        # Once, for whatever is made only once.
        assert imported(2000, GOOD, BAD) == (1000, 1000)
        assert exported() > 1000 * len(GOOD)
        with flat(process):
            accepted, _ = imported(ROWS, GOOD)
        with flat(process):
            _, rejected = imported(ROWS * 2, BAD)
        with flat(process):
            assert exported() > ROWS // 100 * 100 * len(GOOD)
        assert (accepted, rejected) == (ROWS // 100 * 100, ROWS * 2 // 100 * 100)
