"""What OpenAPI says about the forms and the refusals of `/v1/auth`."""

from typing import Any

from pydantic import JsonValue
from starlette.responses import Response

from api.problems import BAD_REQUEST, MEDIA_TYPE, STATUSES, Kind, answer, described, example
from common.tokens import AUDIENCES

REFUSAL_KINDS = {
    "invalid_request": Kind(
        400, "invalid-request", "The request is not complete", "The field grant_type is missing."
    ),
    "invalid_grant": Kind(
        400, "invalid-grant", "Login refused", "The user name or the password is not right."
    ),
    "invalid_scope": Kind(400, "invalid-scope", "Scope refused", "None of the requested scopes is yours."),
    "invalid_target": Kind(
        400,
        "invalid-target",
        "Unknown service",
        "The resource is none of urn:bookstore:api, urn:bookstore:reader.",
    ),
    "unsupported_grant_type": Kind(
        400, "unsupported-grant-type", "Unknown way to log in", "grant_type is password or refresh_token."
    ),
}

TOO_MANY_GUESSES = Kind(
    429, "too-many-guesses", "Too many wrong passwords", "Too many wrong passwords; try again in 30 s."
)

# Said aloud, so that nobody takes it for forgotten.
OPEN: dict[str, Any] = {"security": []}
TOKEN_EXAMPLE: dict[str, JsonValue] = {
    "access_token": "eyJhbGciOi…",
    "token_type": "bearer",
    "expires_in": 900,
    "refresh_token": "8xLOxBtZp8…",
    "scope": "books:read books:write",
}
KEY_EXAMPLE: dict[str, JsonValue] = {
    "kty": "EC",
    "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
    "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
    "kid": "oKIywvGUpTVTyxMQ3bwIIeQUudfr_CkLMjCE19ECD-U",
    "use": "sig",
    "alg": "ES256",
}


def _example(error: str, kind: Kind) -> dict[str, Any]:
    return {
        "type": kind.type,
        "title": kind.title,
        "status": kind.status,
        "detail": kind.example,
        "error": error,
        "error_description": kind.example,
    }


def too_many_guesses(seconds: int) -> Response:
    """The answer to who must wait; its `error` is the one that OAuth has for what passes."""
    detail = f"Too many wrong passwords; try again in {seconds} s."
    members = {"error": "temporarily_unavailable", "error_description": detail}
    headers = {"Retry-After": str(seconds), "Cache-Control": "no-store"}
    return answer(TOO_MANY_GUESSES, detail, headers=headers, members=members)


GUESS_REFUSALS: dict[str, Any] = {
    **described([STATUSES[429], TOO_MANY_GUESSES]),
    "content": {
        MEDIA_TYPE: {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": {
                STATUSES[429].name: {"value": example(STATUSES[429])},
                TOO_MANY_GUESSES.name: {"value": _example("temporarily_unavailable", TOO_MANY_GUESSES)},
            },
        }
    },
}


def refusals(*codes: str) -> dict[str, Any]:
    """The answer 400 of an endpoint that refuses with these codes of RFC 6749, section 5.2."""
    return {
        "description": "Refused (RFC 6749, section 5.2): a problem with `error` and `error_description`.",
        "content": {
            MEDIA_TYPE: {
                "schema": {"$ref": "#/components/schemas/Problem"},
                "examples": {
                    **{code: {"value": _example(code, REFUSAL_KINDS[code])} for code in codes},
                    BAD_REQUEST.name: {"value": example(BAD_REQUEST)},
                },
            }
        },
    }


def _form(required: list[str], examples: dict[str, Any], **fields: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": required,
        "properties": {name: {"type": "string", **field} for name, field in fields.items()},
        # Others are ignored, but none may be there twice (RFC 6749, section 3.2).
        "additionalProperties": {"type": "string"},
    }
    content = {"schema": schema, "examples": {name: {"value": value} for name, value in examples.items()}}
    return {
        "requestBody": {"required": True, "content": {"application/x-www-form-urlencoded": content}},
    }


TOKEN_REQUEST = _form(
    ["grant_type"],
    {
        "password": {
            "grant_type": "password",
            "username": "ada",
            "password": "correct horse battery",
            "scope": "books:read books:write",
        },
        "refresh": {"grant_type": "refresh_token", "refresh_token": "8xLOxBtZp8…"},
    },
    grant_type={"enum": ["password", "refresh_token"]},
    username={"description": "For the password grant."},
    password={"description": "For the password grant.", "format": "password"},
    refresh_token={"description": "For the refresh grant."},
    scope={"description": "Scopes, separated by spaces; all that the user has when left out."},
    resource={
        "description": "The one service that the token shall be for (RFC 8707); all when left out.",
        "enum": list(AUDIENCES),
    },
    client_id={"description": "Not needed: all clients are public."},
)
REVOCATION_REQUEST = _form(
    ["token"],
    {"refresh": {"token": "8xLOxBtZp8…", "token_type_hint": "refresh_token"}},
    token={"description": "The refresh token, or an access token.", "minLength": 1},
    token_type_hint={"description": "Not needed."},
)
