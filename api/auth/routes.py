"""`/v1/auth` and the public keys (design, section 5)."""

import contextlib
from dataclasses import dataclass, replace
from typing import Annotated, Any, cast
from urllib.parse import parse_qsl

from fastapi import APIRouter, Depends, HTTPException, Request, Response
from fastapi.responses import JSONResponse
from pydantic import BaseModel, ConfigDict, Field

from api import problems
from api.auth import descriptions
from api.auth.descriptions import too_many_guesses
from api.auth.keys import SigningKeys
from api.auth.server import Answer, LoginServer
from api.auth.turnstile import Turnstile
from api.media_types import is_utf_8
from api.services import Services, services_of
from common.errors import BookstoreError, UnauthenticatedError
from common.tokens import TokenVerifier

_FORM = "application/x-www-form-urlencoded"
_FIELDS_MAX = 32
_NO_STORE = {"Cache-Control": "no-store", "Pragma": "no-cache"}
_NO_FORM = f"Send the fields as {_FORM} in UTF-8."
_FORM_RESPONSES = {
    **problems.responses(413, 415, 503, *problems.WRITING),
    415: problems.described([replace(problems.STATUSES[415], example=_NO_FORM)]),
}
_TOKEN_RESPONSES = {
    **_FORM_RESPONSES,
    400: descriptions.refusals(*descriptions.REFUSAL_KINDS),
    429: descriptions.GUESS_REFUSALS,
}
_REVOKE_RESPONSES = {**_FORM_RESPONSES, 400: descriptions.refusals("invalid_request")}
_PUBLIC = {"Cache-Control": "public, max-age=300"}

router = APIRouter(tags=["auth"])


@dataclass(frozen=True)
class Login:
    """What the calls below work with; `hashing` lets few through, for a password check is dear.

    `verifier` takes access tokens for any service, so that all can be revoked.
    """

    server: LoginServer
    keys: SigningKeys
    verifier: TokenVerifier
    hashing: Turnstile
    lookups: Turnstile


async def _login_of(request: Request) -> Login:
    return cast("Login", request.app.state.login)


LoginOf = Annotated[Login, Depends(_login_of)]


class TokenAnswer(BaseModel):
    """RFC 6749, section 5.1."""

    model_config = ConfigDict(json_schema_extra={"examples": [descriptions.TOKEN_EXAMPLE]})
    access_token: str = Field(description="Send it as `Authorization: Bearer …`.")
    token_type: str
    expires_in: int = Field(description="Seconds.")
    refresh_token: str = Field(description="Good for one use of the refresh grant.")
    scope: str = Field(description="What was granted.")


class JwksAnswer(BaseModel):
    """RFC 7517, section 5."""

    model_config = ConfigDict(json_schema_extra={"examples": [{"keys": [descriptions.KEY_EXAMPLE]}]})
    keys: list[dict[str, Any]]


@router.post(
    "/v1/auth/token",
    operation_id="logIn",
    summary="Log in, or refresh a login",
    response_model=TokenAnswer,
    response_description="The tokens.",
    responses=_TOKEN_RESPONSES,
    openapi_extra=descriptions.TOKEN_REQUEST | descriptions.OPEN,
)
async def token(request: Request, login: LoginOf) -> Response:
    """Password grant (RFC 6749, section 4.3) and refresh grant (section 6).

    Granted is what `scope` asks for *and* the user has; without `scope`, all that the user has.
    """
    form = await _form(request)
    if isinstance(form, Response):
        return form
    turnstile = login.lookups if form.get("grant_type") == "refresh_token" else login.hashing
    return _response(await turnstile.run(login.server.token, form, address_of(request)))


@router.post(
    "/v1/auth/revoke",
    operation_id="revokeToken",
    summary="Revoke a token",
    responses={
        **_REVOKE_RESPONSES,
        200: {
            "description": "It is revoked, or was no good before.",
            "content": {"application/json": {"schema": {"type": "object"}, "example": {}}},
        },
    },
    openapi_extra=descriptions.REVOCATION_REQUEST | descriptions.OPEN,
)
async def revoke(
    request: Request, login: LoginOf, services: Annotated[Services, Depends(services_of)]
) -> Response:
    """RFC 7009. With a refresh token goes all that came from the same login, an access token goes alone."""
    form = await _form(request)
    if isinstance(form, Response):
        return form
    try:
        bearer = await login.verifier.verify(form.get("token", ""))
    except UnauthenticatedError:
        bearer = None
    answer = await login.lookups.run(login.server.revoke, form, address_of(request), bearer)
    await ended(services)
    return _response(answer)


@router.head("/.well-known/jwks.json", include_in_schema=False)
@router.get(
    "/.well-known/jwks.json",
    operation_id="getKeys",
    summary="Get the public keys",
    response_model=JwksAnswer,
    response_description="The keys.",
    responses=problems.responses(),
    openapi_extra=descriptions.OPEN,
)
async def jwks(login: LoginOf) -> Response:
    """The keys that access tokens are verified with, as a JWK Set (RFC 7517)."""
    return Response(login.keys.jwks, media_type="application/json", headers=_PUBLIC)


def address_of(request: Request) -> str:
    """Where the request comes from."""
    return request.client.host if request.client else ""


async def ended(services: Services) -> None:
    """Let this process know at once of what was just ended; the others look each second."""
    # It is ended whether or not we see it now.
    with contextlib.suppress(BookstoreError):
        await services.denied.read()


async def _form(request: Request) -> dict[str, str] | Response:
    """The fields; those without a value count as left out, and none may come twice (RFC 6749, 3.2).

    None may stand in the address, which is written into logs (section 2.3.1).
    """
    if request.scope["query_string"]:
        return _refusal("invalid_request", "The address has a query; send all fields in the body.")
    media_type = request.headers.get("content-type", "")
    if media_type.partition(";")[0].strip().lower() != _FORM or not is_utf_8(media_type):
        raise HTTPException(415, _NO_FORM)
    try:
        body = (await request.body()).decode("ascii")
        fields = parse_qsl(body, errors="strict", max_num_fields=_FIELDS_MAX)
    except ValueError:
        return _refusal("invalid_request", "The body is no form in UTF-8.")
    form = dict(fields)
    if len(form) < len(fields):
        return _refusal("invalid_request", "A field is there more than once.")
    if "grant_type" not in form and request.url.path.endswith("/token"):
        return _refusal("invalid_request", "The field grant_type is missing.")
    return form


def _response(answer: Answer) -> Response:
    status, members = answer
    if "retry_after" in members:
        return too_many_guesses(members["retry_after"])
    if "error" in members:
        return _refusal(members["error"], members.get("error_description", ""))
    if "token_type" in members:
        members = {**members, "token_type": "bearer"}
    return JSONResponse(members, status, _NO_STORE)


def _refusal(error: str, description: str) -> Response:
    """A problem that is an OAuth error as well (RFC 6749, section 5.2, has `error` and its description)."""
    kind = descriptions.REFUSAL_KINDS.get(error, descriptions.REFUSAL_KINDS["invalid_request"])
    description = description or kind.example
    members = {"error": error, "error_description": description}
    return problems.answer(kind, description, headers=_NO_STORE, members=members)
