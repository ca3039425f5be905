"""Whatever is raised while a request is answered becomes a problem; none carries a trace or a query."""

from collections.abc import Mapping, Sequence
from http import HTTPStatus
from typing import Any, cast

from fastapi import FastAPI
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match

from api.faults import message_of
from api.problems import (
    ERRORS,
    METHODS,
    OPTIONS,
    REALM,
    STATUSES,
    Kind,
    answer,
    pointer_to,
    unknown_outcome,
    wrong_method,
)
from common.errors import (
    BookstoreError,
    InvalidInputError,
    MissingScopeError,
    OutcomeUnknownError,
    UnauthenticatedError,
    Violation,
)

# An input may be wrong in thousands of places.
_FAULTS_SHOWN = 20
_DETAIL_SHOWN = 200
_NOT_AN_OBJECT = "must be a JSON object"
_UNREAD = "There was an error parsing the body"


def install(app: FastAPI) -> None:
    """Let `app` answer every error with a problem."""
    app.add_exception_handler(BookstoreError, _bookstore_error)
    app.add_exception_handler(RequestValidationError, _validation_error)
    app.add_exception_handler(HTTPException, _http_exception)
    app.add_exception_handler(ClientDisconnect, _left)
    # Starlette raises it again after this answer has gone out, and uvicorn logs it with its traceback.
    app.add_exception_handler(Exception, _unforeseen)


def kind_of(error: BookstoreError) -> Kind:
    """The row of the error's class, or of the nearest class that it derives from."""
    return next(ERRORS[kind] for kind in type(error).__mro__ if kind in ERRORS)


async def _bookstore_error(request: Request, error: Exception) -> Response:
    kind = kind_of(cast("BookstoreError", error))
    if isinstance(error, InvalidInputError):
        return _invalid(error.violations)
    if isinstance(error, OutcomeUnknownError):
        return unknown_outcome(request.scope, str(error))
    return answer(kind, str(error), headers=_challenge(request, error))


def _challenge(request: Request, error: Exception) -> dict[str, str]:
    """`WWW-Authenticate` of RFC 6750, section 3: no error code where no token was sent."""
    if isinstance(error, MissingScopeError):
        return {"WWW-Authenticate": f'{REALM}, error="insufficient_scope", scope="{error.scope}"'}
    if not isinstance(error, UnauthenticatedError):
        return {}
    sent = request.headers.get("authorization", "").lower().startswith("bearer ")
    return {"WWW-Authenticate": f'{REALM}, error="invalid_token"' if sent else REALM}


async def _validation_error(_: Request, error: Exception) -> Response:
    return _invalid([_violation(fault) for fault in cast("RequestValidationError", error).errors()])


def _malformed(reason: str) -> Response:
    return answer(STATUSES[400], f"The body {reason}.", faults=[Violation("", reason)])


def _invalid(violations: Sequence[Violation]) -> Response:
    first = violations[0]
    detail = f"{first.pointer or 'The body'}: {first.detail}"
    if len(violations) > 1:
        detail += f" (and {len(violations) - 1} more)"
    return answer(ERRORS[InvalidInputError], detail, faults=violations[:_FAULTS_SHOWN])


def _violation(fault: Mapping[str, Any]) -> Violation:
    place = tuple(str(step) for step in fault["loc"])
    if place == ("body",) and fault["type"] != "string_unicode":
        return Violation("", _NOT_AN_OBJECT)
    if place[0] == "body":
        place = place[1:]
    return Violation(pointer_to(*place), message_of(fault)[:_DETAIL_SHOWN])


async def _http_exception(request: Request, error: Exception) -> Response:
    found = cast("HTTPException", error)
    if found.status_code == HTTPStatus.METHOD_NOT_ALLOWED:
        allowed = [*_allowed(request), OPTIONS]
        if request.method == OPTIONS:
            return Response(status_code=204, headers={"Allow": ", ".join(allowed)})
        kind = wrong_method(allowed)
        return answer(kind, kind.example, headers={"Allow": ", ".join(allowed)})
    if found.status_code == HTTPStatus.BAD_REQUEST:
        # FastAPI's own sentence is for a client that has left.
        return _malformed("ended early" if found.detail == _UNREAD else found.detail)
    return answer(_kind(found.status_code), _detail(found), headers=found.headers)


def _kind(status: int) -> Kind:
    if status in STATUSES:
        return STATUSES[status]
    phrase = HTTPStatus(status).phrase
    return Kind(status, phrase.lower().replace(" ", "-"), phrase, phrase)


def _detail(error: HTTPException) -> str:
    """The sentence given where it was raised, or ours for the bare phrases of Starlette and FastAPI."""
    if error.status_code == HTTPStatus.NOT_FOUND:
        return "There is nothing at this address."
    return error.detail


def _allowed(request: Request) -> list[str]:
    """All methods of the address (RFC 9110, section 15.5.6): the router names those of one route only."""
    routes = cast("FastAPI", request.app).router.routes
    scopes = ({**request.scope, "method": method} for method in METHODS)
    return [
        scope["method"] for scope in scopes if any(route.matches(scope)[0] is Match.FULL for route in routes)
    ]


async def _left(_: Request, __: Exception) -> Response:
    """Nobody reads this answer but the metrics: that a client leaves is no fault of ours."""
    return _malformed("ended early")


async def _unforeseen(_: Request, __: Exception) -> Response:
    return answer(STATUSES[500], STATUSES[500].example)
