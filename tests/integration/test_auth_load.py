"""A hundred logins at once cost neither the event loop nor the memory of a hundred password checks."""

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import httpx
import psutil

from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import thread_engine
from common.tokens import SCOPES
from tests.fixtures.api import PASSWORD
from tests.fixtures.schema import database_settings
from tests.fixtures.system_services import Starter
from tests.waiting import eventually

LOGINS = 100
# Each check takes 19 MiB; a hundred at once would take 1,900.
GROWTH_MAX_BYTES = 300 * 1024 * 1024


def test_a_hundred_logins_at_once(start: Starter, database_url: str) -> None:
    engine = thread_engine(database_settings(database_url))
    add_user(engine, "ada", Passwords().hash(PASSWORD), list(SCOPES))
    engine.dispose()
    service = start("api", RATE_LIMIT_LOGIN="0")
    eventually(lambda: service.ready, within=20)
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
    process = psutil.Process(service.process.pid)
    assert httpx.post(f"{service.url}/v1/auth/token", data=form).status_code == 200
    before, peak, waits = process.memory_info().rss, 0, []
    done = threading.Event()

    def look() -> None:
        nonlocal peak
        with httpx.Client(base_url=service.url, timeout=10) as client:
            while not done.is_set():
                begun = time.monotonic()
                assert client.get("/livez").status_code == 200
                waits.append(time.monotonic() - begun)
                peak = max(peak, process.memory_info().rss)
                done.wait(0.01)

    looking = threading.Thread(target=look)
    looking.start()
    barrier = threading.Barrier(LOGINS)
    # One for all, made before: a hundred would take seconds of this process, in which nobody could look.
    clients = httpx.Client(base_url=service.url, timeout=30, limits=httpx.Limits(max_connections=LOGINS))

    def log_in(_: int) -> int:
        barrier.wait(20)
        return clients.post("/v1/auth/token", data=form).status_code

    with clients, ThreadPoolExecutor(LOGINS) as pool:
        answers = Counter(pool.map(log_in, range(LOGINS)))
    done.set()
    looking.join(10)
    assert set(answers) <= {200, 503}
    assert answers[200] >= 20, "as many as may wait are let in"
    assert len(waits) > 5
    assert sorted(waits)[len(waits) // 2] < 0.25, "others are answered meanwhile"
    assert max(waits) < 2
    assert peak - before < GROWTH_MAX_BYTES
