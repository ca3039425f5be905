"""Problem details (RFC 9457): the one table of what each error looks like over HTTP."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from pydantic import BaseModel, ConfigDict, Field
from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Scope

from common import errors
from common.errors import BookstoreError, Violation

# In the order in which `Allow` names them.
METHODS = ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
# What every address answers to besides.
OPTIONS = "OPTIONS"
MEDIA_TYPE = "application/problem+json"
REALM = 'Bearer realm="bookstore"'
_RETRY_AFTER_SECONDS = 1
_PASSING = frozenset({409, 429, 503})
_POINTER_SHOWN = 200


@dataclass(frozen=True)
class Kind:
    """What all problems of a kind share. `example` is the detail shown in the OpenAPI description."""

    status: int
    name: str
    title: str
    example: str

    @property
    def type(self) -> str:
        """A stable relative reference that identifies the kind (RFC 9457, section 3.1.1)."""
        return f"/problems/{self.name}"


ERRORS: dict[type[BookstoreError], Kind] = {
    errors.BookNotFoundError: Kind(404, "book-not-found", "No such book", "There is no book 17."),
    errors.InvalidInputError: Kind(
        422, "invalid-input", "The input is not right", "/title: must not be blank"
    ),
    errors.StaleVersionError: Kind(
        412, "stale-version", "The book has changed", "Book 1 is at version 3 now; read it again."
    ),
    errors.ConditionRequiredError: Kind(
        428,
        "condition-required",
        "The version is missing",
        "Send If-Match with the ETag of the book that you have read.",
    ),
    errors.KeyReusedError: Kind(
        422,
        "idempotency-key-reused",
        "The key belongs to another request",
        "This Idempotency-Key was used for another request; use a new key for each.",
    ),
    errors.RequestInWorkError: Kind(
        409,
        "request-in-work",
        "The same request is in work",
        "A request with this Idempotency-Key is still in work; send it again shortly.",
    ),
    errors.UnauthenticatedError: Kind(
        401, "unauthenticated", "Not logged in", "The token has expired; log in again."
    ),
    errors.MissingScopeError: Kind(
        403, "missing-scope", "Not allowed", "This call needs the scope books:write."
    ),
    errors.ContendedError: Kind(
        503, "contended", "Too many changes at once", "Another change of the same rows was under way."
    ),
    errors.DatabaseUnavailableError: Kind(
        503, "database-unavailable", "The database is not available", "The database cannot be reached."
    ),
    errors.OutcomeUnknownError: Kind(
        503,
        "outcome-unknown",
        "Perhaps done, perhaps not",
        "The database connection was lost during the commit.",
    ),
    errors.KeysUnavailableError: Kind(
        503, "keys-unavailable", "Tokens cannot be checked", "The keys cannot be had at the moment."
    ),
}
_UNKNOWN = ERRORS[errors.OutcomeUnknownError]
_KEYED_PATHS = "/v1/books"
# What frameworks and limits refuse, before any rule about books is asked.
STATUSES: dict[int, Kind] = {
    kind.status: kind
    for kind in (
        Kind(400, "malformed-body", "The body cannot be read", "The body is not JSON: error at character 9."),
        Kind(404, "not-found", "Nothing is here", "There is nothing at this address."),
        Kind(405, "method-not-allowed", "Not with this method", "This address answers to GET only."),
        Kind(406, "not-acceptable", "Not in that form", "Accept one of text/csv, application/x-ndjson."),
        Kind(413, "too-large", "The body is too large", "The body must not exceed 65536 bytes."),
        Kind(
            415, "unsupported-media-type", "Wrong media type", "Send the body as application/json in UTF-8."
        ),
        Kind(
            429,
            "rate-limited",
            "Too many calls",
            "There may be 1000 calls of one user in a second; try again in the next.",
        ),
        Kind(500, "internal-error", "The fault is ours", "An unforeseen error; it has been logged."),
        Kind(503, "busy", "Too much at once", "Too many of these at once; try again shortly."),
    )
}
OVERLOADED = Kind(
    503, "overloaded", "Too much is in work", "Too many calls are in work; try again in a second."
)
# What is said to a connection whose request cannot be read, before the rest is.
BAD_REQUEST = Kind(400, "bad-request", "Not HTTP", "This cannot be read as a request of HTTP/1.1.")
TOO_SLOW = Kind(408, "too-slow", "The request took too long", "The request did not arrive in time.")
HEAD_TOO_LARGE = Kind(
    431, "head-too-large", "The head is too large", "The address and the headers must not exceed 16384 bytes."
)
OF_CONNECTIONS = (OVERLOADED, BAD_REQUEST, TOO_SLOW, HEAD_TOO_LARGE)

_CHALLENGE = {
    "WWW-Authenticate": {
        "description": "The scheme, and what was wrong with the token (RFC 6750, section 3).",
        "schema": {"type": "string", "examples": [f'{REALM}, error="invalid_token"']},
    }
}
_NARROW = {
    "WWW-Authenticate": {
        "description": "The scheme, and which scope is missing (RFC 6750, section 3.1).",
        "schema": {
            "type": "string",
            "examples": [f'{REALM}, error="insufficient_scope", scope="books:write"'],
        },
    }
}
_RETRY = {
    "Retry-After": {
        "description": "After how many seconds to ask again.",
        "schema": {"type": "string", "examples": [str(_RETRY_AFTER_SECONDS)]},
    }
}
_RETRY_IF_SAFE = {
    "Retry-After": {
        **_RETRY["Retry-After"],
        "description": "After how many seconds to ask again. With `outcome-unknown` only where a repeat does"
        " nothing twice: the call changes nothing, or has an `Idempotency-Key`.",
    }
}
_HEADERS = {
    401: _CHALLENGE,
    403: _NARROW,
    **dict.fromkeys(_PASSING, _RETRY),
    503: _RETRY_IF_SAFE,
}
_EXAMPLE_FAULTS = {
    ERRORS[errors.InvalidInputError]: Violation("/title", "must not be blank"),
    STATUSES[400]: Violation("", "is not JSON: error at character 9"),
}

# Why a call is answered with an error, by what it does.
ACCESS = (errors.UnauthenticatedError, errors.MissingScopeError)
BODY = (400, 413, 415)
READING = (errors.ContendedError, errors.DatabaseUnavailableError)
KEYED = (errors.KeyReusedError, errors.RequestInWorkError)
WRITING = (*READING, errors.OutcomeUnknownError)
# Any call may meet a fault of ours, or be cut short by the end of the server,
ANY = (429, 500, errors.OutcomeUnknownError)
# or what is said before it is with the application.
ANY_KIND = (OVERLOADED, BAD_REQUEST, TOO_SLOW, HEAD_TOO_LARGE)


class Fault(BaseModel):
    """One fault in the input; `pointer` is a JSON Pointer (RFC 6901) into the body.

    Or `/query/…`, `/path/…`, `/header/…`. The empty pointer means the body as a whole.
    """

    pointer: str = Field(examples=["/title"])
    detail: str = Field(examples=["must not be blank"])


class Problem(BaseModel):
    """What went wrong (RFC 9457). Look at `type`: it is stable, `title` and `detail` are for people."""

    model_config = ConfigDict(extra="allow")
    type: str = Field(description="A stable reference to the kind of problem.")
    title: str = Field(description="The kind in a few words.")
    status: int = Field(description="The HTTP status.")
    detail: str = Field(description="What happened this time and what to do about it.")
    errors: list[Fault] = Field(default=[], description="The faults of the input, if that is it.")


def pointer_to(*steps: str) -> str:
    """A JSON Pointer (RFC 6901, section 3) to a place in the input; the name of a field may be long."""
    pointer = "".join("/" + step.replace("~", "~0").replace("/", "~1") for step in steps)
    return pointer[:_POINTER_SHOWN]


def answer(
    kind: Kind,
    detail: str,
    *,
    faults: Sequence[Violation] = (),
    headers: Mapping[str, str] | None = None,
    members: Mapping[str, str] | None = None,
) -> Response:
    """A problem as a response; `members` are extensions (section 3.2). What passes carries Retry-After."""
    body: dict[str, Any] = {"type": kind.type, "title": kind.title, "status": kind.status, "detail": detail}
    if faults:
        body["errors"] = [asdict(fault) for fault in faults]
    passes = kind.status in _PASSING and kind is not _UNKNOWN
    retry = {"Retry-After": str(_RETRY_AFTER_SECONDS)} if passes else {}
    # Escaped to ASCII, so that half a surrogate pair in a client's field name cannot break the answer.
    content = json.dumps({**body, **(members or {})})
    return Response(content, kind.status, {**retry, **(headers or {})}, MEDIA_TYPE)


def unknown_outcome(scope: Scope, detail: str) -> Response:
    """The answer to a request that was done or not; with Retry-After where a repeat does nothing twice.

    It does not where nothing is changed, or where the call goes by the request's Idempotency-Key.
    """
    is_named = scope["path"].startswith(_KEYED_PATHS) and "idempotency-key" in Headers(scope=scope)
    may_repeat = is_named or scope["method"] in {"GET", "HEAD"}
    return answer(_UNKNOWN, detail, headers={"Retry-After": str(_RETRY_AFTER_SECONDS)} if may_repeat else {})


def responses(*causes: type[BookstoreError] | int) -> dict[int | str, dict[str, Any]]:
    """What a route's `responses=` says: schema, examples and headers for each status that it may answer.

    A cause is an error of ours, or a status of `STATUSES`.
    """
    each = dict.fromkeys((*causes, *ANY))
    kinds = [STATUSES[cause] if isinstance(cause, int) else ERRORS[cause] for cause in each]
    kinds += ANY_KIND
    return {
        status: described([kind for kind in kinds if kind.status == status])
        for status in sorted({kind.status for kind in kinds})
    }


def described(kinds: Sequence[Kind]) -> dict[str, Any]:
    """Schema, examples and headers of answers that have one status."""
    found: dict[str, Any] = {
        "description": "; ".join(kind.title for kind in kinds),
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {kind.name: {"value": example(kind)} for kind in kinds},
            }
        },
    }
    if headers := _HEADERS.get(kinds[0].status):
        found["headers"] = headers
    return found


def wrong_method(allowed: Sequence[str]) -> Kind:
    """405 as an address says it that answers to these methods only."""
    return replace(STATUSES[405], example=f"This address answers to {', '.join(allowed)} only.")


def example(kind: Kind) -> dict[str, Any]:
    """A problem of that kind."""
    found: dict[str, Any] = {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.example,
    }
    if kind in _EXAMPLE_FAULTS:
        found["errors"] = [asdict(_EXAMPLE_FAULTS[kind])]
    return found
