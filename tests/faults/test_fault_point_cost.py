"""What the fault points cost a relay that nobody disturbs: too little to be measured from outside.

`python -m pytest tests/faults/test_fault_point_cost.py -s` prints the figure of docs/reliability.md. Two
drains differ by more than what is looked for; so it is counted how many points a relay passes for each event,
and measured what passing one takes.
"""

import sys
import time
import timeit
from collections import Counter
from collections.abc import Callable

import pytest
from sqlalchemy import Engine

from common import fault_points
from tests.fixtures.relay import Relaying, Tap, backlog, write
from tests.waiting import eventually

BOOKS, VERSIONS = 500, 8
MOST = 0.03


@pytest.fixture
def drain(relay_engine: Engine, relaying: Relaying, tap: Callable[[], Tap]) -> Callable[[int], float]:
    """Sends `BOOKS * VERSIONS` events of other books than the last time; the seconds that each took."""
    tap()

    def run(first: int) -> float:
        for version in range(1, VERSIONS + 1):
            write(relay_engine, [(book_id, version) for book_id in range(first, first + BOOKS)])
        begun = time.monotonic()
        with relaying():
            eventually(lambda: backlog(relay_engine) == 0, within=60)
            return (time.monotonic() - begun) / (BOOKS * VERSIONS)

    return run


def test_unarmed_fault_points_take_less_than_three_percent_of_the_relays_time(
    drain: Callable[[int], float], monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds_per_event = min(drain(1), drain(1001))
    visits: Counter[str] = Counter()
    with monkeypatch.context() as armed:
        armed.setattr(fault_points, "_on_reach", lambda name: visits.update([name]))
        drain(2001)
    visits_per_event = visits.total() / (BOOKS * VERSIONS)
    seconds_per_visit = (
        min(timeit.repeat(lambda: fault_points.reach("relay.after-publish"), number=10_000)) / 10_000
    )
    share = visits_per_event * seconds_per_visit / seconds_per_event
    sys.stdout.write(
        f"\n{visits_per_event:.2f} fault points an event, {seconds_per_visit * 1e9:.0f} ns each, of"
        f" {seconds_per_event * 1e6:.0f} us an event: {share:.3%}\n"
    )
    assert {"relay.after-publish", "relay.after-confirm", "relay.inside-settle"} <= visits.keys()
    assert visits_per_event >= 2
    assert share < MOST
