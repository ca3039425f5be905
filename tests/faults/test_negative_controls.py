"""The checker is worth nothing unless it catches builds that are known to be broken.

Each runs in a situation that is forced, in which it must break; the sound build must come through the same.
"""

from collections.abc import Callable

import pytest

from tests.faults import scenarios
from tests.faults.checker import Kind, check
from tests.faults.evidence import Evidence
from tests.faults.trial import Trial

Scenario = Callable[[Trial, str], Evidence]

CONTROLS: dict[str, tuple[Scenario, Kind]] = {
    "publish_before_commit": (scenarios.commit_that_never_arrives, Kind.UNCOMMITTED),
    "no_mandatory": (scenarios.no_queue_for_a_moment, Kind.LOST),
    "acknowledge_before_record": (scenarios.reader_that_dies_with_a_batch_in_hand, Kind.LOST),
    "id_beyond_the_last": (scenarios.transaction_that_commits_late, Kind.LOST),
    "skip_locked": (scenarios.relay_that_pauses_with_its_claim, Kind.WIRE_ORDER),
    "no_wait_for_confirms": (scenarios.first_event_unroutable_and_second_not, Kind.WIRE_ORDER),
    "fill_without_token": (scenarios.change_between_miss_and_fill, Kind.STALE),
}


def kinds(trial: Trial, scenario: Scenario, build: str) -> set[Kind]:
    """What the checker finds in the books that the scenario has added."""
    before = trial.sentinel()
    evidence = scenario(trial, build).of_books_after(before)
    return {violation.kind for violation in check(evidence)}


@pytest.mark.parametrize(("build", "scenario", "kind"), [(name, *rest) for name, rest in CONTROLS.items()])
def test_broken_build_is_caught(trial: Trial, build: str, scenario: Scenario, kind: Kind) -> None:
    assert kinds(trial, scenario, build) == {kind}


@pytest.mark.parametrize("scenario", [scenario for scenario, _ in CONTROLS.values()])
def test_sound_build_comes_through_the_same(trial: Trial, scenario: Scenario) -> None:
    assert kinds(trial, scenario, "") == set()
