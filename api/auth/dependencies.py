from collections.abc import Awaitable, Callable
from typing import Annotated

from fastapi import Depends, Request, Security
from fastapi.security import OAuth2PasswordBearer
from starlette.requests import HTTPConnection

from api.admission import take_user
from api.query_strings import require_known_query
from api.services import Services, services_of
from common.tokens import SCOPES, Principal, bearer_token


class _Authorization(OAuth2PasswordBearer):
    """Describes the login for OpenAPI and Swagger; the header is judged by `bearer_token`."""

    async def __call__(self, request: HTTPConnection) -> str | None:
        """The header as it came; two are none, or the one could be checked here that a proxy did not see."""
        values = request.headers.getlist("authorization")
        return values[0] if len(values) == 1 else None


_AUTHORIZATION = _Authorization(
    tokenUrl="/v1/auth/token",
    refreshUrl="/v1/auth/token",
    scheme_name="login",
    scopes=SCOPES,
    description="User name and password. Leave the client's id and secret empty.",
)


def requires(*scopes: str) -> Callable[..., Awaitable[Principal]]:
    """A dependency that gives who calls, for calls that need all of `scopes`.

    It raises UnauthenticatedError without a good token, MissingScopeError without a scope, and
    KeysUnavailableError; HTTPException 429 when the user calls too often. Who may call is then told what the
    call does not know of its query: InvalidInputError.
    """

    async def principal(
        authorization: Annotated[str | None, Security(_AUTHORIZATION, scopes=scopes)],
        services: Annotated[Services, Depends(services_of)],
        request: Request,
    ) -> Principal:
        found = await services.verifier.verify(bearer_token(authorization))
        take_user(services.rates, services.refusals, request, found.username)
        for scope in scopes:
            found.require(scope)
        require_known_query(request)
        return found

    return principal
