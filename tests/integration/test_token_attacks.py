"""No token gets in, at either door, but the API's own; and no answer repeats a token or tells of a key."""

import logging

import pytest

from tests.attack_table import ATTACKS, GOOD
from tests.attacks import Forge
from tests.fixtures.ways_in import ACCEPTED, REFUSED, Door

both_doors = pytest.mark.parametrize("door", ["rest", "grpc"], indirect=True)


@both_doors
@pytest.mark.parametrize("name", GOOD)
def test_a_token_made_by_the_same_hand_and_right_is_accepted(door: Door, forge: Forge, name: str) -> None:
    assert door.knock(f"Bearer {GOOD[name](forge)}").verdict == ACCEPTED


@both_doors
@pytest.mark.parametrize("name", ATTACKS)
def test_a_forged_token_is_refused_and_the_door_says_nothing_of_it(
    door: Door, forge: Forge, name: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    token = ATTACKS[name](forge)
    answer = door.knock(f"Bearer {token}")
    assert answer.verdict == REFUSED, answer
    told = [*forge.secrets(), *(part for part in token.split(".") if len(part) > 12)]
    assert not [each for each in told if each in answer.text + caplog.text]
    assert door.knock(f"Bearer {forge.token()}").verdict == ACCEPTED, "the door still opens"


@both_doors
def test_a_good_token_that_was_let_in_opens_for_no_forged_one(door: Door, forge: Forge) -> None:
    good = forge.token()
    assert door.knock(f"Bearer {good}").verdict == ACCEPTED
    head, payload, tail = good.split(".")
    for near in (f"{head}.{payload}.{tail[:-1]}", f"{head}.{payload}.", f"{good}=", good.lower()):
        assert door.knock(f"Bearer {near}").verdict == REFUSED
