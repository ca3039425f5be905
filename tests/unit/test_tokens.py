import time
from collections.abc import Sequence
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from common.errors import UnauthenticatedError
from common.tokens import API, AUDIENCES, READER, Principal, TokenVerifier

pytestmark = pytest.mark.anyio
KEYS = KeySet([ECKey.generate_key("P-256", auto_kid=True)])


class Keys:
    def __init__(self) -> None:
        self.published = KEYS

    async def __call__(self) -> KeySet:
        return self.published


def verifier(keys: Keys | None = None, *, remembered: int = 4096, audience: str = API) -> TokenVerifier:
    return TokenVerifier(keys or Keys(), [audience], lambda _: None, remembered=remembered)


def token(ahead: int = 0, audiences: Sequence[str] = AUDIENCES) -> str:
    """One that was issued just now by a clock that is so many seconds ahead."""
    now = int(time.time()) + ahead
    claims = {"iss": "bookstore", "aud": [*audiences], "sub": "ada", "iat": now, "exp": now + 60}
    return jwt.encode({"alg": "ES256", "typ": "at+jwt"}, {**claims, "jti": str(uuid4())}, KEYS)


async def test_a_verified_token_is_not_verified_again() -> None:
    verifies, one = verifier(), token()
    assert await verifies.verify(one) is await verifies.verify(one)


async def test_a_remembered_token_is_verified_again_with_other_keys() -> None:
    keys, one = Keys(), token()
    verifies = verifier(keys)
    await verifies.verify(one)
    keys.published = KeySet([ECKey.generate_key("P-256", auto_kid=True)])
    with pytest.raises(UnauthenticatedError):
        await verifies.verify(one)


async def test_a_remembered_token_is_refused_from_the_moment_that_it_is_denied() -> None:
    denied: set[str] = set()

    def check(principal: Principal) -> None:
        if not denied.isdisjoint(principal.names):
            raise UnauthenticatedError("ended")

    verifies, one = TokenVerifier(Keys(), [API], check), token()
    denied.add((await verifies.verify(one)).token_id)
    with pytest.raises(UnauthenticatedError, match="ended"):
        await verifies.verify(one)


@pytest.mark.parametrize(
    ("audience", "named", "lets_in"),
    [
        (API, [API], True),
        (READER, [API], False),
        (API, [READER], False),
        (READER, [API, READER], True),
        (API, [API, "elsewhere"], False),
    ],
)
async def test_a_service_takes_a_token_that_names_it_and_none_but_ours(
    audience: str, named: list[str], *, lets_in: bool
) -> None:
    verifies, one = verifier(audience=audience), token(audiences=named)
    if lets_in:
        assert (await verifies.verify(one)).username == "ada"
    else:
        with pytest.raises(UnauthenticatedError):
            await verifies.verify(one)


async def test_no_more_tokens_are_remembered_than_agreed_and_the_forgotten_are_verified_again() -> None:
    verifies, tokens = verifier(remembered=2), [token() for _ in range(3)]
    first, *_ = [await verifies.verify(each) for each in tokens]
    again = await verifies.verify(tokens[0])
    assert again == first
    assert again is not first
    assert len(verifies._verified) <= 2  # noqa: SLF001  what must stay bounded


async def test_a_token_of_a_clock_that_is_half_a_minute_ahead_is_good_and_one_of_hours_is_not() -> None:
    verifies = verifier()
    assert (await verifies.verify(token(ahead=30))).username == "ada"
    with pytest.raises(UnauthenticatedError):
        await verifies.verify(token(ahead=3 * 3600))


async def test_a_token_that_has_expired_by_a_second_is_refused() -> None:
    with pytest.raises(UnauthenticatedError, match="expired"):
        await verifier().verify(token(ahead=-61))
