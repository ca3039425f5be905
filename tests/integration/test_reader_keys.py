"""The public keys of the API, over HTTP."""

import asyncio
import time

import pytest

from common.denied_tokens import DeniedTokens
from common.errors import KeysUnavailableError, UnauthenticatedError
from common.tokens import Principal
from grpc_reader import keys as keys_module
from grpc_reader.authentication import Authentication
from grpc_reader.keys import RemoteKeys
from tests.fixtures.reader import Keys, new_key

pytestmark = pytest.mark.anyio
TIMEOUT_SECONDS = 1.0


@pytest.fixture(autouse=True)
def no_pause(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(keys_module, "_PAUSE_SECONDS", 0.0)
    monkeypatch.setattr(keys_module, "_TIMEOUT_SECONDS", TIMEOUT_SECONDS)


class NobodyDenied(DeniedTokens):
    """Of a database without any."""

    def __init__(self) -> None:
        pass

    def check(self, principal: Principal) -> None:
        """All may come in."""


def authentication_by(keys: Keys) -> Authentication:
    return Authentication(RemoteKeys(keys.url), NobodyDenied())


def metadata(token: str) -> list[tuple[str, str]]:
    return [("authorization", f"Bearer {token}")]


async def test_keys_are_fetched_once_and_kept_while_the_api_is_away(keys: Keys) -> None:
    authentication = authentication_by(keys)
    assert (await authentication.check(metadata(keys.token()))).username == "alice"
    keys.away = True
    assert (await authentication.check(metadata(keys.token()))).username == "alice"
    assert keys.downloads == 1


async def test_while_the_api_is_frozen_nobody_waits_behind_another_for_keys_that_are_there(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    authentication = authentication_by(keys)
    await authentication.check(metadata(keys.token()))
    monkeypatch.setattr(keys_module, "_MAX_AGE_SECONDS", -1.0)
    keys.answers.clear()
    callers = [authentication.check(metadata(keys.token())) for _ in range(5)]
    begun = time.monotonic()
    await asyncio.gather(*callers)
    waited = time.monotonic() - begun
    assert TIMEOUT_SECONDS - 0.1 < waited < 3 * TIMEOUT_SECONDS, "all wait for one download"
    for _ in range(20):
        begun = time.monotonic()
        await authentication.check(metadata(keys.token()))
        assert time.monotonic() - begun < TIMEOUT_SECONDS - 0.1
        await asyncio.sleep(0.1)
    assert keys.downloads > 2, "they are asked for again and again"
    keys.answers.set()
    newer = new_key()
    keys.published.append(newer)
    await asyncio.sleep(TIMEOUT_SECONDS)
    assert (await authentication.check(metadata(keys.token(key=newer)))).username == "alice"


async def test_a_token_of_an_unknown_key_waits_for_a_frozen_api_no_longer_than_for_one_download(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_PAUSE_SECONDS", 60.0)
    keys.answers.clear()
    authentication = authentication_by(keys)
    begun = time.monotonic()
    callers = [authentication.check(metadata(keys.token())) for _ in range(5)]
    found = await asyncio.gather(*callers, return_exceptions=True)
    assert {type(error) for error in found} == {KeysUnavailableError}
    assert time.monotonic() - begun < 3 * TIMEOUT_SECONDS
    assert keys.downloads == 1


async def test_keys_that_are_the_same_are_the_same_object(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whoever has verified tokens by them has not done so in vain."""
    remote = RemoteKeys(keys.url)
    before = await remote()
    assert not await remote.refresh()
    assert (keys.downloads, await remote()) == (2, before)


async def test_a_download_of_a_byte_at_a_time_ends(keys: Keys, monkeypatch: pytest.MonkeyPatch) -> None:
    keys.pause_seconds = 0.1
    remote = RemoteKeys(keys.url)
    begun = time.monotonic()
    with pytest.raises(KeysUnavailableError):
        await remote()
    await asyncio.get_running_loop().shutdown_default_executor()
    assert time.monotonic() - begun < 3 * TIMEOUT_SECONDS


async def test_a_key_that_is_newer_than_ours_is_fetched(keys: Keys) -> None:
    authentication = authentication_by(keys)
    await authentication.check(metadata(keys.token()))
    newer = new_key()
    keys.published.append(newer)
    assert (await authentication.check(metadata(keys.token(key=newer)))).username == "alice"
    await authentication.check(metadata(keys.token()))
    assert keys.downloads == 2


async def test_unknown_keys_do_not_make_us_ask_for_every_call(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(keys_module, "_PAUSE_SECONDS", 60.0)
    authentication = authentication_by(keys)
    foreign = new_key()
    for _ in range(5):
        with pytest.raises(UnauthenticatedError):
            await authentication.check(metadata(keys.token(key=foreign)))
    assert keys.downloads == 1


async def test_without_any_keys_a_call_is_told_to_try_again_and_later_succeeds(keys: Keys) -> None:
    keys.away = True
    authentication = authentication_by(keys)
    with pytest.raises(KeysUnavailableError):
        await authentication.check(metadata(keys.token()))
    keys.away = False
    assert (await authentication.check(metadata(keys.token()))).username == "alice"


async def test_a_key_that_was_withdrawn_is_given_up_when_the_copy_is_old(
    keys: Keys, monkeypatch: pytest.MonkeyPatch
) -> None:
    authentication = authentication_by(keys)
    await authentication.check(metadata(keys.token()))
    keys.published[:] = [new_key()]
    monkeypatch.setattr(keys_module, "_MAX_AGE_SECONDS", -1.0)
    with pytest.raises(UnauthenticatedError):
        await authentication.check(metadata(keys.token()))


@pytest.mark.parametrize("url", ["http://127.0.0.1:1/", "http://name.invalid/"])
async def test_an_address_where_nobody_is_means_no_keys(url: str) -> None:
    with pytest.raises(KeysUnavailableError):
        await RemoteKeys(url)()
