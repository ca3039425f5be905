"""What it costs a GET that rates are counted and told: processor time, of one API with rates and one without.

`python -m pytest tests/faults/test_rate_limit_cost.py -m long -s` prints the figure of docs/adr/0019.
"""

import statistics
import sys

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
from tests.fixtures.system_services import Service, Starter
from tests.waiting import eventually

ROUNDS, SECONDS, RATE = 9, 3, 300
MOST = 1.10


def cost(service: Service) -> float:
    """Processor seconds of a call."""
    form = {"grant_type": "password", "username": "ada", "password": PASSWORD}
    answer = httpx.post(f"{service.url}/v1/auth/token", data=form).raise_for_status()
    request = (
        f"GET /v1/books?limit=1 HTTP/1.1\r\nHost: {service.url.removeprefix('http://')}\r\n"
        f"Authorization: Bearer {answer.json()['access_token']}\r\n\r\n"
    )
    process = psutil.Process(service.process.pid)
    before = process.cpu_times()
    figures = Load(service.url, request.encode(), 16).run(SECONDS, RATE)
    after = process.cpu_times()
    assert set(figures.seconds) == {200}
    spent: float = after.user + after.system - before.user - before.system
    return spent / figures.answers


@pytest.mark.long
@pytest.mark.timeout(300)
def test_rates_cost_a_read_less_than_a_tenth(start: Starter, database_url: str) -> None:
    engine = thread_engine(database_settings(database_url))
    add_user(engine, "ada", Passwords().hash(PASSWORD), list(SCOPES))
    engine.dispose()
    none = {f"RATE_LIMIT_{name}": "0" for name in ("ADDRESS", "USER", "LOGIN")}
    limited, free = start("api", RATE_LIMIT_LOGIN="1000"), start("api", **none)
    eventually(lambda: limited.ready and free.ready, within=20)
    pairs = [(cost(limited), cost(free)) for _ in range(ROUNDS)]
    ratio = statistics.median(with_rates / without for with_rates, without in pairs)
    seconds = statistics.median(without for _, without in pairs)
    sys.stdout.write(
        f"\na read takes {seconds * 1e6:.0f} us of processor time; with rates {ratio:.3f} of it\n"
    )
    assert ratio < MOST
