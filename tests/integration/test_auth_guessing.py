"""Guessing passwords is slow from anywhere, and locks nobody out where they are at home."""

from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import Engine, text

from api.auth.guessing import ADDRESS, NAME, PAIR, Guesser, forgive, owe, seconds_to_wait
from api.auth.passwords import Passwords
from api.auth.users import add_user
from common.database import thread_engine, transaction
from common.tokens import SCOPES
from tests.fixtures.api import PASSWORD, Api

pytestmark = pytest.mark.usefixtures("nobody_owes")
HOME, STRANGE = "127.0.0.2", "127.0.0.3"


@pytest.fixture(scope="module")
def engine(api: Api) -> Iterator[Engine]:
    engine = thread_engine(api.settings)
    for name in ("ada", "grace"):
        add_user(engine, name, Passwords().hash(PASSWORD), list(SCOPES))
    yield engine
    engine.dispose()


@pytest.fixture
def owing(engine: Engine) -> Callable[[str, str, int], None]:
    """Lets somebody have guessed wrong so many times, without the time that the hashing takes."""

    def owing(username: str, address: str, times: int) -> None:
        for _ in range(times):
            with transaction(engine) as connection:
                owe(connection, Guesser.of(username, address))

    return owing


@pytest.fixture
def later(engine: Engine) -> Callable[[timedelta], None]:
    """Lets time pass for whatever is owed."""

    def later(passed: timedelta) -> None:
        with engine.begin() as connection:
            statement = text("UPDATE guess_debt SET paid_at = paid_at - INTERVAL :seconds SECOND")
            connection.execute(statement, {"seconds": passed.total_seconds()})

    return later


def guess(api: Api, username: str, times: int = 1) -> list[int]:
    return [api.ask_token(username, "not the password").status_code for _ in range(times)]


@pytest.mark.parametrize("username", ["ada", "nobody"])
def test_after_ten_wrong_passwords_no_other_is_looked_at_for_half_a_minute(
    api: Api, engine: Engine, later: Callable[[timedelta], None], username: str
) -> None:
    assert engine
    assert guess(api, username, PAIR.burst) == [400] * PAIR.burst
    for password in ("not the password", PASSWORD):
        refused = api.ask_token(username, password)
        assert (refused.status_code, refused.headers["content-type"]) == (429, "application/problem+json")
        assert 0 < int(refused.headers["retry-after"]) <= PAIR.pause.total_seconds()
        assert refused.headers["cache-control"] == "no-store"
        members = refused.json()
        assert (members["type"], members["error"]) == (
            "/problems/too-many-guesses",
            "temporarily_unavailable",
        )
    later(PAIR.pause)
    assert guess(api, username, 2) == [400, 429]


def test_a_stranger_who_guesses_keeps_nobody_out_but_himself(api: Api, engine: Engine) -> None:
    assert engine
    assert api.seen_from(HOME).ask_token("ada").status_code == 200
    assert guess(api.seen_from(STRANGE), "ada", PAIR.burst + 1)[-1] == 429
    assert api.seen_from(HOME).ask_token("ada").status_code == 200


def test_guesses_from_many_addresses_are_slow_together_and_the_user_gets_in_at_home(
    api: Api, owing: Callable[[str, str, int], None], later: Callable[[timedelta], None]
) -> None:
    home = api.seen_from(HOME)
    assert home.ask_token("ada").status_code == 200
    for number in range(NAME.burst // PAIR.burst):
        owing("ada", f"127.0.1.{number}", PAIR.burst)
    assert guess(api.seen_from("127.0.1.200"), "ada") == [429]
    assert api.seen_from("127.0.1.200").ask_token("ada").status_code == 429, "at a new place one waits"
    assert guess(api.seen_from("127.0.1.200"), "grace") == [400], "each name for itself"
    assert home.ask_token("ada").status_code == 200
    later(NAME.pause)
    assert guess(api.seen_from("127.0.1.200"), "ada", 2) == [400, 429]


def test_an_address_that_tries_many_names_is_slow_and_others_are_not(
    api: Api, owing: Callable[[str, str, int], None], later: Callable[[timedelta], None]
) -> None:
    for number in range(ADDRESS.burst):
        owing(f"name-{number}", STRANGE, 1)
    strange = api.seen_from(STRANGE)
    assert guess(strange, "grace") == [429]
    assert guess(strange, "no name at all!") == [429]
    assert api.seen_from(HOME).ask_token("grace").status_code == 200
    later(ADDRESS.pause)
    assert guess(strange, "grace", 2) == [400, 429]


def test_an_own_account_pays_for_no_guesses_at_others(
    api: Api, owing: Callable[[str, str, int], None]
) -> None:
    for number in range(ADDRESS.burst - 1):
        owing(f"name-{number}", STRANGE, 1)
    strange = api.seen_from(STRANGE)
    assert strange.ask_token("grace").status_code == 200
    assert guess(strange, "nobody", 2) == [400, 429]


def test_a_right_password_pays_for_the_wrong_ones_before_it(api: Api, engine: Engine) -> None:
    assert engine
    for _ in range(3):
        assert guess(api, "ada", PAIR.burst - 1) == [400] * (PAIR.burst - 1)
        assert api.ask_token("ada").status_code == 200


def test_who_waits_owes_no_more_for_having_asked(
    api: Api, owing: Callable[[str, str, int], None], later: Callable[[timedelta], None]
) -> None:
    owing("ada", HOME, PAIR.burst)
    home = api.seen_from(HOME)
    assert guess(home, "ada", 20) == [429] * 20
    later(PAIR.pause)
    assert home.ask_token("ada").status_code == 200


def test_guesses_at_the_change_of_a_password_count_and_cost_no_more_than_others(
    api: Api, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert engine
    login = api.login("grace")
    monkeypatch.setattr(Passwords, "hash", lambda *_, **__: pytest.fail("a new one is hashed for a guess"))
    wrong = {"current_password": "not the password", "new_password": "mule wrong capacitor"}
    with api.client(login["access_token"]) as client:
        found = [client.post("/v1/auth/password", json=wrong).status_code for _ in range(PAIR.burst)]
        assert found == [422] * PAIR.burst
        refused = client.post("/v1/auth/password", json={**wrong, "current_password": PASSWORD})
        assert refused.status_code == 429
        assert int(refused.headers["retry-after"]) > 0
    assert api.ask_token("grace").status_code == 429


@pytest.mark.parametrize(
    ("host", "subject"),
    [
        ("192.0.2.7", "192.0.2.7"),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
        ("::ffff:192.0.2.7", "192.0.2.7"),
        ("fe80::1%eth0", "fe80::"),
        ("", "unknown"),
        ("no address", "unknown"),
    ],
)
def test_an_address_is_what_one_customer_has(host: str, subject: str) -> None:
    assert Guesser.of("ada", host).address == subject


def test_a_home_of_long_ago_is_none(engine: Engine, owing: Callable[[str, str, int], None]) -> None:
    with transaction(engine) as connection:
        user_id = connection.execute(text("SELECT id FROM user_account WHERE username = 'ada'")).scalar_one()
        forgive(connection, Guesser.of("ada", HOME), user_id)
    for number in range(NAME.burst // PAIR.burst):
        owing("ada", f"127.0.1.{number}", PAIR.burst)
    with transaction(engine) as connection:
        assert seconds_to_wait(connection, Guesser.of("ada", HOME), user_id) == 0
        old = datetime.now(UTC).replace(tzinfo=None) - timedelta(days=91)
        connection.execute(text("UPDATE known_address SET seen_at = :old"), {"old": old})
        assert seconds_to_wait(connection, Guesser.of("ada", HOME), user_id) > 0
