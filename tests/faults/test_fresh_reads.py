"""A machine of readers and a consumer sees no old answer in the sound build, and some in each broken one."""

import importlib

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import run_state_machine_as_test

from common import cache
from common.cache import BookCache
from grpc_reader.intake import Intake
from grpc_reader.ticket import Ticket
from tests.faults.fresh_reads import FreshGround, FreshReads
from tests.faults.stepped_reads import GRPC, REST, SURFACES

SETTINGS = settings(
    deadline=None,
    derandomize=True,
    database=None,
    stateful_step_count=12,
    report_multiple_bugs=False,
    phases=[Phase.generate, Phase.shrink],
    suppress_health_check=list(HealthCheck),
)
# What the broken builds put something else in the place of.
REPLACED = (
    (BookCache, "fill"),
    (BookCache, "look_up"),
    (Intake, "_record"),
    (Ticket, "_begin_again"),
    (cache, "secrets"),
)


def run(ground: FreshGround, how: settings, *judged: str) -> None:
    run_state_machine_as_test(lambda: FreshReads(ground, judged), settings=how)  # type: ignore[arg-type]  # any factory


def test_no_answer_is_older_than_the_record(fresh_ground: FreshGround) -> None:
    run(fresh_ground, settings(SETTINGS, max_examples=60), *SURFACES)
    for surface in SURFACES:
        counts = fresh_ground.reads.counts(surface)
        # Who never fills, or is never refused, shows nothing.
        assert min(counts["hit"], counts["filled"], counts["refused"]) > 0, (surface, counts)


@pytest.mark.long
@pytest.mark.timeout(1200)
def test_none_of_many_longer_sequences_of_chance_has_one_either(fresh_ground: FreshGround) -> None:
    chance = settings(SETTINGS, derandomize=False, max_examples=500, stateful_step_count=25)
    run(fresh_ground, chance, *SURFACES)


# Hundreds of sequences are tried to find one, and the shortest.
@pytest.mark.parametrize("surface", [REST, GRPC])
@pytest.mark.parametrize(
    "build",
    [
        "fill_without_token",
        "record_before_evict",
        pytest.param("one_token_for_all", marks=pytest.mark.long),
        pytest.param("same_generation_again", marks=pytest.mark.long),
        pytest.param("serve_without_ticket", marks=pytest.mark.long),
    ],
)
def test_a_broken_build_is_found_out_on_each_surface_and_the_sequence_that_shows_it_is_short(
    fresh_ground: FreshGround, build: str, surface: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for broken, name in REPLACED:
        monkeypatch.setattr(broken, name, getattr(broken, name))  # so that it is put back
    importlib.import_module(f"tests.faults.broken.{build}").install()
    with pytest.raises(AssertionError, match=f"surface='{surface}'.* was answered with version") as found:
        run(fresh_ground, settings(SETTINGS, max_examples=600), surface)
    sequence = "\n".join(found.value.__notes__)
    assert 1 <= sequence.count("state.then(") <= 4, sequence
