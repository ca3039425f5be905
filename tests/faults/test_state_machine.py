"""A machine of small steps finds nothing in the sound build, and what is wrong in a broken one."""

import importlib

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from grpc_reader.intake import Intake
from outbox_relay.lanes import Lanes
from tests.faults.ground import Ground
from tests.faults.small_steps import SmallSteps

SETTINGS = settings(
    deadline=None,
    stateful_step_count=20,
    report_multiple_bugs=False,
    phases=[Phase.reuse, Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
# What the broken builds put something else in the place of.
REPLACED = ((Lanes, "next_head"), (Lanes, "forget"), (Intake, "_record"))


def run(ground: Ground, how: settings) -> None:
    run_state_machine_as_test(lambda: SmallSteps(ground), settings=how)  # type: ignore[arg-type]  # any factory


# Green it takes seconds; red it takes the five minutes that Hypothesis has for finding the shortest sequence.
@pytest.mark.timeout(400)
def test_no_sequence_of_steps_loses_repeats_or_reorders_an_event(ground: Ground) -> None:
    run(ground, settings(SETTINGS, max_examples=20))


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_none_of_many_longer_sequences_does_either(ground: Ground) -> None:
    run(ground, settings(SETTINGS, max_examples=200, stateful_step_count=40))


# Hundreds of sequences are tried to find the shortest.
@pytest.mark.long
@pytest.mark.timeout(600)
@pytest.mark.parametrize("build", ["no_wait_for_confirms", "acknowledge_before_record"])
def test_a_broken_build_is_found_out_and_the_sequence_that_shows_it_is_short(
    ground: Ground, build: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken, name in REPLACED:
        monkeypatch.setattr(broken, name, getattr(broken, name))  # so that it is put back
    importlib.import_module(f"tests.faults.broken.{build}").install()
    always_the_same = settings(
        SETTINGS, max_examples=200, stateful_step_count=8, derandomize=True, database=None
    )
    with pytest.raises(AssertionError) as found:
        run(ground, always_the_same)
    assert 1 <= len(steps(found.value)) <= 4, found.value.__notes__


def steps(error: BaseException) -> list[str]:
    """The rules of the sequence that Hypothesis reports, without what is part of every sequence."""
    lines = "\n".join(error.__notes__).splitlines()
    always = ("begin_with_one_book()", "nothing_is_broken()", "teardown()")
    return [line for line in lines if "state." in line and not line.endswith(always)]
