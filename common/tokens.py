"""Verification of access tokens with public keys alone; both services do it."""

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet

from common.errors import MissingScopeError, UnauthenticatedError

ISSUER = "bookstore"
AUDIENCE = "bookstore"
ALGORITHM = "ES256"
SCOPES = {
    "books:read": "Read books and recorded events.",
    "books:write": "Add, change and delete books.",
    "outbox:admin": "Operate the outbox.",
}
_TOKEN_MAX_LENGTH = 4096
# The API's clock may be ahead of ours; that a token has expired is looked at again below, to the second.
_SKEW_SECONDS = 60
_CLAIMS = jwt.JWTClaimsRegistry(
    leeway=_SKEW_SECONDS,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True, "value": AUDIENCE},
    sub={"essential": True},
    exp={"essential": True},
    iat={"essential": True},
    jti={"essential": True},
)

Keys = Callable[[], Awaitable[KeySet]]


@dataclass(frozen=True)
class Principal:
    """Who calls, and what they may do; `expires_at` is seconds since the epoch."""

    username: str
    scopes: frozenset[str]
    expires_at: int

    def require(self, scope: str) -> None:
        """Raise MissingScopeError unless the token carries `scope`."""
        if scope not in self.scopes:
            raise MissingScopeError(scope)


class TokenVerifier:
    """Says who a bearer token belongs to, or raises UnauthenticatedError.

    A verified token is remembered until it expires or too many are: its signature costs more than the rest
    of a read.
    `keys` gives the public keys; it may raise KeysUnavailableError.
    """

    def __init__(self, keys: Keys, *, remembered: int = 4096) -> None:
        self._keys = keys
        self._remembered = remembered
        self._verified: dict[str, Principal] = {}

    async def verify(self, token: str) -> Principal:
        """The principal of a token that is signed by us with ES256, in date, and meant for this system."""
        principal = self._verified.get(token)
        if principal is None:
            principal = self._decode(token, await self._keys())
            if len(self._verified) >= self._remembered:
                self._verified.clear()
            self._verified[token] = principal
        if principal.expires_at <= time.time():
            raise UnauthenticatedError("The token has expired; log in again.")
        return principal

    @staticmethod
    def _decode(token: str, keys: KeySet) -> Principal:
        if len(token) > _TOKEN_MAX_LENGTH:
            raise UnauthenticatedError("The token is too long to be one of ours.")
        try:
            decoded = jwt.decode(token, keys, algorithms=[ALGORITHM])
            if decoded.header.get("typ") != "at+jwt":
                raise UnauthenticatedError("This is not an access token.")
            _CLAIMS.validate(decoded.claims)
            return Principal(
                username=str(decoded.claims["sub"]),
                scopes=frozenset(str(decoded.claims.get("scope", "")).split()),
                expires_at=int(decoded.claims["exp"]),
            )
        except (JoseError, ValueError, TypeError, KeyError) as error:
            raise UnauthenticatedError("The token is not valid; log in again.") from error


def bearer_token(authorization: str | None) -> str:
    """The token in an `Authorization: Bearer …` value (RFC 6750, section 2.1), or UnauthenticatedError."""
    scheme, _, token = (authorization or "").partition(" ")
    if scheme.lower() != "bearer" or not token.strip():
        raise UnauthenticatedError("Send a bearer token: Authorization: Bearer <access token>.")
    return token.strip()
