"""What users do about their own account: another password, and the end of all their logins."""

from typing import Annotated, Any

from fastapi import APIRouter, Depends, Request, Response
from pydantic import BaseModel, ConfigDict, Field

from api import problems
from api.auth.dependencies import requires
from api.auth.descriptions import TOO_MANY_GUESSES, too_many_guesses
from api.auth.guessing import Guesser
from api.auth.logins import TooManyGuessesError
from api.auth.passwords import MAX_LENGTH, MIN_LENGTH, WeakPasswordError
from api.auth.routes import LoginOf, address_of, ended
from api.books.json_bodies import JsonRoute
from api.services import Services, services_of
from common.errors import InvalidInputError, UnauthenticatedError, Violation
from common.tokens import Principal

PASSWORD_PATH = "/v1/auth/password"  # noqa: S105  an address
SIGNED_IN = requires()
# A body has no meaning here, but one that is too large or coded is refused all the same.
_RESPONSES = problems.responses(413, 415, 503, UnauthenticatedError, *problems.WRITING)
_DONE: dict[int | str, dict[str, Any]] = {
    204: {"description": "Done; no token of this user is good any more."}
}

router = APIRouter(tags=["auth"], route_class=JsonRoute)


class PasswordChange(BaseModel):
    """A user's password, and the one that they want instead."""

    model_config = ConfigDict(
        extra="forbid",
        strict=True,
        json_schema_extra={
            "examples": [
                {"current_password": "correct horse battery", "new_password": "mule wrong capacitor"}
            ]
        },
    )
    current_password: str = Field(
        description="The password as it is.", json_schema_extra={"format": "password"}
    )
    new_password: str = Field(
        description=f"{MIN_LENGTH} to {MAX_LENGTH} characters, another one, not guessed at first.",
        json_schema_extra={"format": "password"},
    )


@router.post(
    PASSWORD_PATH,
    status_code=204,
    operation_id="changePassword",
    summary="Change one's password",
    responses={
        **_DONE,
        **problems.responses(*problems.BODY, 503, UnauthenticatedError, InvalidInputError, *problems.WRITING),
        429: problems.described([problems.STATUSES[429], TOO_MANY_GUESSES]),
    },
)
async def change_password(
    request: Request,
    change: PasswordChange,
    login: LoginOf,
    principal: Annotated[Principal, Depends(SIGNED_IN)],
    services: Annotated[Services, Depends(services_of)],
) -> Response:
    """Set another password, and end all logins, this one too. A wrong current one counts as a guess."""
    guesser = Guesser.of(principal.username, address_of(request))
    try:
        is_right = await login.hashing.run(
            login.server.change_password, guesser, change.current_password, change.new_password
        )
    except WeakPasswordError as error:
        raise InvalidInputError(Violation("/new_password", str(error))) from None
    except TooManyGuessesError as error:
        return too_many_guesses(error.seconds)
    if not is_right:
        raise InvalidInputError(Violation("/current_password", "is not right"))
    await ended(services)
    return Response(status_code=204)


@router.post(
    "/v1/auth/sign-out",
    status_code=204,
    operation_id="signOut",
    summary="End all of one's logins",
    responses={**_DONE, **_RESPONSES},
)
async def sign_out(
    login: LoginOf,
    principal: Annotated[Principal, Depends(SIGNED_IN)],
    services: Annotated[Services, Depends(services_of)],
) -> Response:
    """No token of this user is good any more, on whatever device, within seconds at every service."""
    await login.lookups.run(login.server.sign_out, principal.username)
    await ended(services)
    return Response(status_code=204)
