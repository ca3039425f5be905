"""Twice what the API can serve: what it takes on is answered in time, the rest is refused at once."""

import json
import os
import time

import httpx
import psutil
import pytest

from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import thread_engine
from common.tokens import SCOPES
from tests.faults.load import Load
from tests.fixtures.api import PASSWORD
from tests.fixtures.schema import database_settings
from tests.fixtures.system_services import Starter
from tests.waiting import eventually

SECONDS = float(os.environ.get("OVERLOAD_SECONDS", "20"))
CONNECTIONS = 600
# What may be in work at once (128), at the slowest rate at which this is worth running, and a second more.
SLOWEST_SECONDS = 4.0
# Half of the refusals come sooner, and need a hundredth of a second where nothing else runs.
REFUSED_SECONDS = 0.5
GROWTH_MAX_BYTES = 60 * 1024 * 1024
BOOK = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}
REFUSED = (429, 503)


def request(url: str, token: str) -> bytes:
    """One that adds a book, as it stands on the wire."""
    body = json.dumps(BOOK)
    return (
        f"POST /v1/books HTTP/1.1\r\nHost: {url.removeprefix('http://')}\r\nAuthorization: Bearer {token}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n{body}"
    ).encode()


@pytest.mark.long
@pytest.mark.timeout(SECONDS * 2 + 120)
def test_at_twice_what_it_serves_the_api_answers_what_it_takes_on_and_refuses_the_rest(
    start: Starter, database_url: str
) -> None:
    engine = thread_engine(database_settings(database_url))
    add_user(engine, "ada", Passwords().hash(PASSWORD), list(SCOPES))
    # Rates are another test's matter: here all calls come from one user at one address.
    service = start("api", RATE_LIMIT_ADDRESS="0", RATE_LIMIT_USER="0", ACCESS_TOKEN_LIFETIME="PT1H")
    eventually(lambda: service.ready, within=20)
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
    token = httpx.post(f"{service.url}/v1/auth/token", data=form).raise_for_status().json()["access_token"]
    sent = request(service.url, token)
    # As many at once as keep it busy, and no more than it takes on.
    alone = Load(service.url, sent, 64).run(max(5, SECONDS / 8), 100_000)
    served = len(alone.seconds[201]) / max(5, SECONDS / 8)
    process = psutil.Process(service.process.pid)
    before = process.memory_info().rss

    figures = Load(service.url, sent, CONNECTIONS).run(SECONDS, 2 * served)
    ended = time.monotonic()
    again = httpx.post(f"{service.url}/v1/books", json=BOOK, headers={"Authorization": f"Bearer {token}"})
    recovered = time.monotonic() - ended

    grown = process.memory_info().rss - before
    accepted, refused = len(figures.seconds[201]), sum(len(figures.seconds.get(it, ())) for it in REFUSED)
    print(  # noqa: T201  what the run was for
        f"alone {served:.0f}/s; of {figures.answers / SECONDS:.0f}/s then {accepted / SECONDS:.0f} accepted,"
        f" {refused / SECONDS:.0f} refused, {figures.lost} lost; seconds (half, 99 %) to be accepted"
        f" {figures.percentile(0.5, 201):.3f}, {figures.percentile(0.99, 201):.3f}, to be refused"
        f" {figures.percentile(0.5, *REFUSED):.3f}, {figures.percentile(0.99, *REFUSED):.3f};"
        f" {grown / 2**20:.0f} MiB more; the next call took {recovered:.3f} s"
    )
    assert set(figures.seconds) <= {201, *REFUSED}
    assert figures.lost == 0
    assert refused > 0, "it was more than it serves"
    assert accepted / SECONDS > served / 3, "it goes on serving"
    assert figures.percentile(0.99, 201) < SLOWEST_SECONDS
    assert figures.percentile(0.5, *REFUSED) < min(REFUSED_SECONDS, figures.percentile(0.5, 201))
    assert figures.percentile(0.99, *REFUSED) < SLOWEST_SECONDS
    assert grown < GROWTH_MAX_BYTES
    assert again.status_code == 201
    assert recovered < 1
    assert service.ready
    engine.dispose()
