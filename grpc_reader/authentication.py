from collections.abc import Iterable
from contextlib import AbstractContextManager

from common.denied_tokens import Admission, DeniedTokens
from common.errors import UnauthenticatedError
from common.tokens import READER, Principal, TokenVerifier, bearer_token
from grpc_reader.keys import RemoteKeys

_SCOPE = "books:read"
# A client must be able to ask for health, and for what there is to call, before it has a token.
_OPEN = ("/grpc.health.v1.Health/", "/grpc.reflection.")


def is_open(method: str) -> bool:
    """Whether the call, named `/package.Service/Method`, needs no token."""
    return method.startswith(_OPEN)


class Authentication:
    """Says who calls, with public keys alone and the list of what is denied."""

    def __init__(self, keys: RemoteKeys, denied: DeniedTokens) -> None:
        self._keys = keys
        self._denied = denied
        self._verifier = TokenVerifier(keys, [READER], denied.check)

    async def check(self, metadata: Iterable[tuple[str, str | bytes]]) -> Principal:
        """The caller, who may read books.

        Raises UnauthenticatedError, MissingScopeError or KeysUnavailableError. A token that does not fit the
        keys at hand may have been signed with a newer one: they are fetched again before it is refused.
        """
        values = [str(value) for name, value in metadata if name == "authorization"]
        token = bearer_token(values[0] if len(values) == 1 else None)
        try:
            principal = await self._verifier.verify(token)
        except UnauthenticatedError:
            if not await self._keys.refresh():
                raise
            principal = await self._verifier.verify(token)
        principal.require(_SCOPE)
        return principal

    def admitted(self, principal: Principal) -> AbstractContextManager[Admission]:
        """Follow whether a caller, whose stream goes on after the check, is denied meanwhile."""
        return self._denied.admitted(principal)
