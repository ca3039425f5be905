"""Verification of access tokens with public keys alone; both services do it."""

import json
import re
import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import dataclass
from typing import Any

from joserfc import jwt
from joserfc.errors import JoseError
from joserfc.jwk import KeySet
from joserfc.util import urlsafe_b64decode

from common.errors import MissingScopeError, UnauthenticatedError

ISSUER = "bookstore"
API, READER = "urn:bookstore:api", "urn:bookstore:reader"
AUDIENCES = (API, READER)
"""The services that a token may be for (`aud`), each of which lets in only who names it."""
ALGORITHM = "ES256"
SCOPES = {
    "books:read": "Read books and recorded events.",
    "books:write": "Add, change and delete books.",
    "outbox:admin": "Operate the outbox.",
}
_TOKEN_MAX_LENGTH = 4096
# `b64token` of RFC 6750, section 2.1; the scheme's case is free (RFC 9110, section 11.1).
_BEARER = re.compile(r"bearer +([a-z0-9._~+/-]+=*) *", re.IGNORECASE | re.ASCII)
# What our tokens have, and no more: nothing in a token may say which key it is to be verified with but the
# name of one that we have (RFC 8725, section 3.10).
_HEADER_MEMBERS = frozenset({"alg", "typ", "kid"})
# A resource server takes both (RFC 9068, section 4), which are the same type (RFC 7515, section 4.1.9).
_TYPES = ("at+jwt", "application/at+jwt")
# 9999-12-31: a later time is none, and one that no float can hold would fail whoever waits for it.
_LAST_SECOND = 253_402_300_799
# The API's clock may be ahead of ours; that a token has expired is looked at again below, to the second.
_SKEW_SECONDS = 60
_CLAIMS = jwt.JWTClaimsRegistry(
    leeway=_SKEW_SECONDS,
    iss={"essential": True, "value": ISSUER},
    aud={"essential": True},
    sub={"essential": True},
    exp={"essential": True},
    iat={"essential": True},
    jti={"essential": True},
)

Keys = Callable[[], Awaitable[KeySet]]


@dataclass(frozen=True)
class Principal:
    """Who calls, and what they may do; `issued_at` and `expires_at` are seconds since the epoch.

    They may be denied by the ids of the token, of its login and of its key, which are `names`.
    """

    username: str
    scopes: frozenset[str]
    issued_at: int
    expires_at: int
    token_id: str
    names: frozenset[str]

    def require(self, scope: str) -> None:
        """Raise MissingScopeError unless the token carries `scope`."""
        if scope not in self.scopes:
            raise MissingScopeError(scope)


class TokenVerifier:
    """Says who a bearer token belongs to, or raises UnauthenticatedError.

    A verified token is remembered until it expires, other keys come or too many are: its signature costs more
    than the rest of a read. It is remembered by its text, which is not its name: to (r, s) of an ES256
    signature there is always a second one, (r, n - s), that is as good. So tokens are denied by their names.
    `keys` gives the public keys; it may raise KeysUnavailableError. The token must be for one of `audiences`,
    and `check_denied` raises for those whose tokens were ended.
    """

    def __init__(
        self,
        keys: Keys,
        audiences: Collection[str],
        check_denied: Callable[[Principal], None],
        *,
        remembered: int = 4096,
    ) -> None:
        self._keys = keys
        self._audiences = frozenset(audiences)
        self._check_denied = check_denied
        self._remembered = remembered
        self._known: KeySet | None = None
        self._verified: dict[str, Principal] = {}

    async def verify(self, token: str) -> Principal:
        """The principal of a token that is signed by us with ES256, in date, for this service, not denied."""
        keys = await self._keys()
        if keys is not self._known:
            # A key may have been withdrawn, and with it whoever holds a token that it signed.
            self._known = keys
            self._verified.clear()
        principal = self._verified.get(token)
        if principal is None:
            principal = self._decode(token, keys)
            if len(self._verified) >= self._remembered:
                self._verified.clear()
            self._verified[token] = principal
        if principal.expires_at <= time.time():
            raise UnauthenticatedError("The token has expired; log in again.")
        self._check_denied(principal)
        return principal

    def _decode(self, token: str, keys: KeySet) -> Principal:
        if len(token) > _TOKEN_MAX_LENGTH:
            raise UnauthenticatedError("The token is too long to be one of ours.")
        try:
            _check_header(token)
            decoded = jwt.decode(token, keys, algorithms=[ALGORITHM], decoder_cls=_Strict)
            claims = decoded.claims
            _check_claims(claims, self._audiences)
            names = (claims["jti"], claims.get("sid"), decoded.header["kid"])
            return Principal(
                username=claims["sub"],
                scopes=frozenset(claims.get("scope", "").split()),
                issued_at=claims["iat"],
                expires_at=claims["exp"],
                token_id=claims["jti"],
                names=frozenset(name for name in names if name),
            )
        except (JoseError, ValueError, TypeError, KeyError, RecursionError) as error:
            raise UnauthenticatedError("The token is not valid; log in again.") from error


class _Strict(json.JSONDecoder):
    """JSON whose objects have no member twice: of two, another reader might believe the other.

    RFC 7515 and RFC 7519 (section 4 of both) let us choose between that and the last one.
    """

    def __init__(self) -> None:
        super().__init__(object_pairs_hook=_unique)


def _unique(members: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(members)
    if len(found) < len(members):
        raise ValueError("A member is there twice.")
    return found


def _check_header(token: str) -> None:
    """ValueError unless the header is one of an access token, with no member that we do not write.

    joserfc would take the last of two members, and any member that an RFC has a meaning for.
    """
    header = json.loads(urlsafe_b64decode(token.partition(".")[0].encode()), cls=_Strict)
    if not isinstance(header, dict) or not _HEADER_MEMBERS.issuperset(header):
        raise ValueError("The header is not one of ours.")
    if header.get("typ") not in _TYPES:
        raise ValueError("This is not an access token.")


def _check_claims(claims: dict[str, Any], audiences: frozenset[str]) -> None:
    """An error of `_decode` unless the claims are in date, for us, and of the types that we write.

    `aud` has this service, and none but our own: any other could use the token here.
    """
    _CLAIMS.validate(claims)
    named = claims["aud"]
    if not isinstance(named, list) or not audiences.intersection(named) or not set(named) <= set(AUDIENCES):
        raise ValueError("The token is not for this service, or for others too.")
    times = [claims[name] for name in ("exp", "iat", "nbf") if name in claims]
    if any(type(each) is not int or each > _LAST_SECOND for each in times):
        raise ValueError("A time is not a whole number of seconds, or is out of this world.")
    if not all(isinstance(claims.get(name, ""), str) for name in ("scope", "sid")):
        raise TypeError("The scope or the login's name is not text.")


def bearer_token(authorization: str | None) -> str:
    """The token in an `Authorization: Bearer …` value (RFC 6750, section 2.1), or UnauthenticatedError."""
    found = _BEARER.fullmatch(authorization or "")
    if found is None:
        raise UnauthenticatedError("Send a bearer token: Authorization: Bearer <access token>.")
    return found[1]
