import time
from uuid import uuid4

import pytest
from joserfc import jwt
from joserfc.jwk import ECKey, KeySet

from common.errors import UnauthenticatedError
from common.tokens import TokenVerifier

pytestmark = pytest.mark.anyio
KEYS = KeySet([ECKey.generate_key("P-256", auto_kid=True)])


class CountedKeys:
    def __init__(self) -> None:
        self.asked = 0

    async def __call__(self) -> KeySet:
        self.asked += 1
        return KEYS


def token(ahead: int = 0) -> str:
    """One that was issued just now by a clock that is so many seconds ahead."""
    now = int(time.time()) + ahead
    claims = {"iss": "bookstore", "aud": "bookstore", "sub": "ada", "iat": now, "exp": now + 60}
    return jwt.encode({"alg": "ES256", "typ": "at+jwt"}, {**claims, "jti": str(uuid4())}, KEYS)


async def test_a_verified_token_is_not_verified_again() -> None:
    keys, one = CountedKeys(), token()
    verifier = TokenVerifier(keys)
    assert await verifier.verify(one) == await verifier.verify(one)
    assert keys.asked == 1


async def test_no_more_tokens_are_remembered_than_agreed_and_the_forgotten_are_verified_again() -> None:
    keys, tokens = CountedKeys(), [token() for _ in range(3)]
    verifier = TokenVerifier(keys, remembered=2)
    for each in (*tokens, *tokens):
        assert (await verifier.verify(each)).username == "ada"
    assert len(verifier._verified) <= 2  # noqa: SLF001  what must stay bounded
    assert keys.asked > 3


async def test_a_token_of_a_clock_that_is_half_a_minute_ahead_is_good_and_one_of_hours_is_not() -> None:
    verifier = TokenVerifier(CountedKeys())
    assert (await verifier.verify(token(ahead=30))).username == "ada"
    with pytest.raises(UnauthenticatedError):
        await verifier.verify(token(ahead=3 * 3600))


async def test_a_token_that_has_expired_by_a_second_is_refused() -> None:
    with pytest.raises(UnauthenticatedError, match="expired"):
        await TokenVerifier(CountedKeys()).verify(token(ahead=-61))
