"""Each service under a wall clock that jumps by hours while clients write and read."""

from pathlib import Path

import httpx
import pytest

from tests.faults.trial import Trial
from tests.faults.workload import Workload, running
from tests.fixtures.clocks import Clock
from tests.fixtures.system import PASSWORD, USERNAME
from tests.waiting import eventually


def log_in(trial: Trial) -> str:
    form = {"grant_type": "password", "username": USERNAME, "password": PASSWORD}
    form["scope"] = "books:read books:write"
    answer = httpx.post(f"{trial.system.api_url}/v1/auth/token", data=form, timeout=30)
    return f"Bearer {answer.json()['access_token']}"


@pytest.mark.long
@pytest.mark.parametrize("service", ["grpc_reader", "outbox_relay", "api"])
def test_service_whose_clock_jumps_under_load_breaks_no_promise(
    trial: Trial, clock: Clock, service: str
) -> None:
    with trial.serving(service, **clock.environment), trial.client() as client:
        process = trial.system.services[service]
        assert "libfaketime" in Path(f"/proc/{process.pid}/maps").read_text(), "its clock is not moved"
        hot = [book_id for _ in range(3) if (book_id := client.create().book_id)]
        with trial.readings() as readings:
            for offset in ("-5h", "+5h", "+0"):
                clock.jump(offset)
                trial.authorization = log_in(trial)
                before = len(trial.journal.read()[0])
                with running(Workload(trial.new_client, readings, hot)):
                    eventually(lambda before=before: len(trial.journal.read()[0]) > before + 60)  # type: ignore[misc]
        changes = trial.journal.read()[0][-30:]
        assert {change.outcome for change in changes} == {"acknowledged"}
    trial.settle()
    assert trial.violations() == []
