"""The line between services and a server is bad for a while, under load; then it is whole again."""

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import ExitStack

import pytest
from sqlalchemy import make_url

from common.settings import BrokerSettings
from devstack.stack import Stack
from tests.faults.proxy import BLACK_HOLE, HALF_OPEN, WHOLE, Line, Proxy, proxy_to
from tests.faults.trial import Trial
from tests.fixtures.trial import running_trial
from tests.waiting import eventually

SERVICES = ("api", "outbox_relay", "grpc_reader")
# Who is led to which server by a line of their own.
LINES = {
    "relay to broker": (["outbox_relay"], "broker"),
    "relay to database": (["outbox_relay"], "database"),
    "reader to broker": (["grpc_reader"], "broker"),
    "reader to database": (["grpc_reader"], "database"),
    "api to database": (["api"], "database"),
    "all to cache": (SERVICES, "cache"),
}
# None is a line that is cut. The delay is the cache's whole patience, and below that of all others.
KINDS = {
    "delayed": Line(delay_seconds=0.1),
    "slow": Line(bytes_per_second=20_000),
    "cut": None,
    "half open": HALF_OPEN,
    "a black hole": BLACK_HOLE,
}
ALWAYS = {
    ("relay to broker", "half open"),
    ("relay to database", "half open"),
    ("reader to broker", "slow"),
    ("reader to database", "a black hole"),
    ("api to database", "cut"),
    ("all to cache", "delayed"),
    ("all to cache", "cut"),
}
MOMENT_SECONDS = 3.0
# Longer than the longest patience of a service, which is that for a broker that says nothing.
SILENCE_SECONDS = 16.0
RECOVERY_SECONDS = 10.0


@pytest.fixture(scope="module")
def lines(stack: Stack) -> Iterator[dict[str, Proxy]]:
    """Each of LINES, whole."""
    with ExitStack() as until_the_end:
        yield {
            name: until_the_end.enter_context(proxy_to(getattr(stack, server).port))
            for name, (_, server) in LINES.items()
        }


@pytest.fixture(scope="module")
def trial(
    stack: Stack,
    module_database_url: str,
    module_broker: BrokerSettings,
    lines: dict[str, Proxy],
    tmp_path_factory: pytest.TempPathFactory,
) -> Iterator[Trial]:
    """As in the other files, but the services see the servers through the lines alone."""
    urls = {"database": module_database_url, "broker": stack.broker_url, "cache": stack.cache_url}
    led: dict[str, dict[str, str]] = defaultdict(dict)
    for name, (services, server) in LINES.items():
        url = make_url(urls[server]).set(port=lines[name].port)
        for service in services:
            led[service][f"{server.upper()}_URL"] = url.render_as_string(hide_password=False)
    with running_trial(stack, module_database_url, tmp_path_factory.mktemp("network"), led) as found:
        yield found


def cases() -> Iterator[object]:
    """Every line and kind, for a moment, and those that are silent for longer than anybody waits."""
    for line in LINES:
        for kind in KINDS:
            marks = [] if (line, kind) in ALWAYS else [pytest.mark.long]
            yield pytest.param(line, kind, MOMENT_SECONDS, marks=marks)
            if kind in {"half open", "a black hole"}:
                yield pytest.param(line, kind, SILENCE_SECONDS, marks=pytest.mark.long)


@pytest.mark.parametrize(("line", "kind", "seconds"), list(cases()))
def test_bad_line_costs_time_and_no_promise(
    trial: Trial, lines: dict[str, Proxy], line: str, kind: str, seconds: float
) -> None:
    proxy, state = lines[line], KINDS[kind]
    troubles = proxy.troubles
    with trial.under_load() as workload:
        await_load(trial)
        if state is None:
            proxy.cut()
        else:
            proxy.set(state)
        workload.go_on(seconds)
        proxy.set(WHOLE)
        whole_at = time.monotonic()
        eventually(lambda: all(map(trial.system.is_ready, SERVICES)), within=RECOVERY_SECONDS)
        # A look that begins in time may end seconds later.
        assert time.monotonic() - whole_at <= RECOVERY_SECONDS
        await_load(trial)
    assert proxy.troubles > troubles, "nobody used that line"
    trial.settle()
    assert trial.violations() == []


def await_load(trial: Trial) -> None:
    """Return after some changes."""
    until = trial.journal.changes + 30
    eventually(lambda: trial.journal.changes >= until, because="clients go on")
