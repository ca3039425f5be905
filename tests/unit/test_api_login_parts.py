"""Keys, passwords and the turnstile: no server needed."""

import json
import os
import stat
import threading
import time
import unicodedata
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from pathlib import Path
from typing import Literal

import pytest
from anyio import create_task_group, to_thread
from fastapi import HTTPException
from joserfc.jwk import ECKey, RSAKey

from api.auth.keys import SigningKeys, add_key, remove_key
from api.auth.passwords import COMMON, MAX_LENGTH, MIN_LENGTH, Passwords, WeakPasswordError
from api.auth.turnstile import Turnstile
from common.errors import DatabaseUnavailableError, StartError


def kid(keys: SigningKeys) -> str:
    return keys.current().kid


def mode(path: Path) -> int:
    return stat.S_IMODE(path.stat().st_mode)


def test_first_start_makes_a_key_that_only_its_owner_can_read(tmp_path: Path) -> None:
    directory = tmp_path / "keys"
    keys = SigningKeys.open(directory)
    assert mode(directory) == 0o700
    assert [(file.name, mode(file)) for file in directory.iterdir()] == [(f"{kid(keys)}.pem", 0o600)]


def test_the_key_survives_a_restart(tmp_path: Path) -> None:
    assert kid(SigningKeys.open(tmp_path)) == kid(SigningKeys.open(tmp_path))


def test_processes_that_start_at_once_agree_on_one_key(tmp_path: Path) -> None:
    starters = 8
    barrier = threading.Barrier(starters)

    def start(_: int) -> str:
        barrier.wait()
        return kid(SigningKeys.open(tmp_path / "keys"))

    with ThreadPoolExecutor(starters) as pool:
        assert len(set(pool.map(start, range(starters)))) == 1


def test_the_newest_key_signs_and_all_are_published(tmp_path: Path) -> None:
    old = SigningKeys.open(tmp_path)
    new = ECKey.generate_key("P-256")
    (tmp_path / "new.pem").write_bytes(new.as_pem(private=True))
    both = SigningKeys.open(tmp_path, lead=timedelta(0))
    assert kid(both) == new.thumbprint()
    assert {key["kid"] for key in json.loads(both.jwks)["keys"]} == {kid(old), kid(both)}


def test_nothing_private_is_published(tmp_path: Path) -> None:
    [key] = json.loads(SigningKeys.open(tmp_path).jwks)["keys"]
    assert set(key) == {"kty", "crv", "x", "y", "kid", "use", "alg"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        ECKey.generate_key("P-384").as_pem(private=True),
        ECKey.generate_key("P-256").as_pem(private=False),
        RSAKey.generate_key(2048).as_pem(private=True),
    ],
    ids=["empty", "garbage", "another curve", "public", "RSA"],
)
def test_a_file_that_is_no_private_key_of_ours_stops_the_start_with_a_sentence(
    tmp_path: Path, content: bytes
) -> None:
    (tmp_path / "wrong.pem").write_bytes(content)
    with pytest.raises(StartError, match=r"wrong\.pem is not the PEM file of a private P-256 key"):
        SigningKeys.open(tmp_path)


def test_a_directory_that_cannot_be_made_stops_the_start_with_a_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(StartError, match="SIGNING_KEYS_DIR"):
        SigningKeys.open(tmp_path / "file" / "keys")


def test_a_new_key_is_published_at_once_and_signs_after_its_lead(tmp_path: Path) -> None:
    keys = SigningKeys.open(tmp_path, timedelta(minutes=6))
    old = kid(keys)
    os.utime(tmp_path / f"{old}.pem", (time.time() - 3600,) * 2)
    made = add_key(tmp_path)
    assert keys.read()
    assert {key["kid"] for key in json.loads(keys.jwks)["keys"]} == {old, made.kid}
    assert kid(keys) == old
    for age, signs in ((5.9, old), (6.1, made.kid)):
        os.utime(made.file, (time.time() - age * 60,) * 2)
        keys.read()
        assert kid(keys) == signs


def test_the_only_key_signs_however_new_it_is(tmp_path: Path) -> None:
    keys = SigningKeys.open(tmp_path, timedelta(minutes=6))
    old = kid(keys)
    made = add_key(tmp_path)
    remove_key(tmp_path, old)
    keys.read()
    assert kid(keys) == made.kid


def test_the_last_key_is_not_removed(tmp_path: Path) -> None:
    only = kid(SigningKeys.open(tmp_path))
    with pytest.raises(ValueError, match="keys rotate"):
        remove_key(tmp_path, only)
    assert kid(SigningKeys.open(tmp_path)) == only


def test_a_key_that_could_not_be_denied_stays(tmp_path: Path) -> None:
    old = kid(SigningKeys.open(tmp_path))
    add_key(tmp_path)

    def fail() -> None:
        raise DatabaseUnavailableError

    with pytest.raises(DatabaseUnavailableError):
        remove_key(tmp_path, old, first=fail)
    assert old in {key.kid for key in SigningKeys.open(tmp_path).all()}


def test_while_the_directory_is_not_right_the_keys_stay(tmp_path: Path) -> None:
    keys = SigningKeys.open(tmp_path)
    before, jwks = kid(keys), keys.jwks
    (tmp_path / "wrong.pem").write_text("no key")
    with pytest.raises(StartError):
        keys.read()
    (tmp_path / "wrong.pem").unlink()
    (tmp_path / f"{before}.pem").rename(tmp_path / "away")
    with pytest.raises(StartError, match="no signing key"):
        keys.read()
    assert (kid(keys), keys.jwks) == (before, jwks)


def test_a_password_matches_its_hash_however_the_keyboard_writes_it() -> None:
    passwords = Passwords()
    stored = passwords.hash("cafe\u0301 with accent")
    assert stored.startswith("$argon2id$v=19$m=19456,t=2,p=1$")
    assert passwords.matches(stored, "caf\u00e9 with accent")
    assert not passwords.matches(stored, "cafe with accent")


@pytest.mark.parametrize(
    "password",
    [
        "password1234",
        "PassWord1234",
        "1Q2W3E4R5T6Y",
        "correct horse battery staple",
        "zzzzzzzzzzzz",
        "éÉéÉéÉéÉéÉéÉ",
        "abcdefabcdef",
        "AliceAliceAlice",
        "alice-alice-alice",
        "alice1111111",
        "111-Alice-111",
    ],
)
def test_a_password_that_is_guessed_first_is_refused_in_any_case(password: str) -> None:
    with pytest.raises(ValueError, match="choose another"):
        Passwords().hash(password, username="alice")


@pytest.mark.parametrize("password", ["alice in wonderland", "abcdefghijklmabcdefghijklm", "aaaaaaaaaaab"])
def test_a_password_may_have_the_name_in_it_and_repeat_what_is_long_enough(password: str) -> None:
    assert Passwords().hash(password, username="alice")


def test_the_common_passwords_are_long_enough_to_be_chosen_and_are_compared_as_they_stand() -> None:
    common = COMMON.read_text().splitlines()
    assert len(common) >= 200
    assert common == sorted(set(common))
    assert [word for word in common if len(word) < MIN_LENGTH or word != word.casefold()] == []


def test_a_password_of_the_greatest_length_matches_when_each_character_is_written_in_four() -> None:
    passwords = Passwords()
    letters = [chr(first + number) for first in (0x1F82, 0x1F92, 0x1FA2) for number in range(6)]
    password = "".join(letters * 8)[:MAX_LENGTH]
    written = unicodedata.normalize("NFD", password)
    assert (len(password), len(written)) == (MAX_LENGTH, 4 * MAX_LENGTH)
    assert passwords.matches(passwords.hash(password), written)


@pytest.mark.parametrize("length", [4 * MAX_LENGTH + 1, 10_000])
def test_a_password_that_is_too_long_is_never_composed_and_checked_as_slowly(
    length: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    passwords = Passwords()
    stored = passwords.hash("mule wrong capacitor")
    password = ("a" + "\u0301" * (length // 2) + "\u0316" * length)[:length]
    composed: list[int] = []
    compose = unicodedata.normalize

    def watched(form: Literal["NFC"], text: str) -> str:
        composed.append(len(text))
        return compose(form, text)

    def seconds(guess: str) -> float:
        begun = time.perf_counter()
        assert not passwords.matches(stored, guess)
        return time.perf_counter() - begun

    monkeypatch.setattr("api.auth.passwords.unicodedata.normalize", watched)
    # In turns, so that both meet the same machine.
    turns = [(seconds(password), seconds("not the password")) for _ in range(5)]
    with pytest.raises(WeakPasswordError, match="12 to 128"):
        passwords.hash(password)
    assert max(composed) <= 4 * MAX_LENGTH
    too_long, wrong = map(min, zip(*turns, strict=True))
    assert 0.5 < too_long / wrong < 2


@pytest.mark.parametrize("password", ["", "nobody has this password", "\ud800" * 12, "x" * 5000])
def test_without_a_stored_hash_no_password_matches(password: str) -> None:
    assert not Passwords().matches(None, password)


def test_a_stored_hash_that_is_none_matches_nothing() -> None:
    assert not Passwords().matches("plain text", "plain text")


@pytest.mark.parametrize("password", ["x" * 11, "x" * 129])
def test_a_password_of_the_wrong_length_is_refused(password: str) -> None:
    with pytest.raises(ValueError, match="12 to 128"):
        Passwords().hash(password)


@pytest.mark.anyio
async def test_a_full_turnstile_sends_the_next_away_with_503() -> None:
    turnstile = Turnstile(at_once=1, waiting=1)
    go, inside = threading.Event(), threading.Event()

    def work() -> None:
        inside.set()
        go.wait()

    async with create_task_group() as tasks:
        tasks.start_soon(turnstile.run, work)
        tasks.start_soon(turnstile.run, work)
        await to_thread.run_sync(inside.wait)
        try:
            with pytest.raises(HTTPException) as refused:
                await turnstile.run(work)
        finally:
            go.set()
    assert refused.value.status_code == 503
    assert await turnstile.run(lambda: 7) == 7
