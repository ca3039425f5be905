"""What OpenAPI says about the forms and the refusals of `/v1/auth`."""

from typing import Any

from pydantic import JsonValue

from api.problems import MEDIA_TYPE, Kind

REFUSAL_KINDS = {
    "invalid_request": Kind(
        400, "invalid-request", "The request is not complete", "The field grant_type is missing."
    ),
    "invalid_grant": Kind(
        400, "invalid-grant", "Login refused", "The user name or the password is not right."
    ),
    "invalid_scope": Kind(400, "invalid-scope", "Scope refused", "None of the requested scopes is yours."),
    "unsupported_grant_type": Kind(
        400, "unsupported-grant-type", "Unknown way to log in", "grant_type is password or refresh_token."
    ),
}

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


REFUSALS: dict[str, Any] = {
    "description": "Refused (RFC 6749, section 5.2): a problem with `error` and `error_description`.",
    "content": {
        MEDIA_TYPE: {
            "schema": {"$ref": "#/components/schemas/Problem"},
            "examples": {error: {"value": _example(error, kind)} for error, kind in REFUSAL_KINDS.items()},
        }
    },
}


def _form(required: list[str], examples: dict[str, Any], **fields: dict[str, Any]) -> dict[str, Any]:
    schema = {
        "type": "object",
        "required": required,
        "properties": {name: {"type": "string", **field} for name, field in fields.items()},
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
    client_id={"description": "Not needed: all clients are public."},
)
REVOCATION_REQUEST = _form(
    ["token"],
    {"refresh": {"token": "8xLOxBtZp8…", "token_type_hint": "refresh_token"}},
    token={"description": "The refresh token."},
    token_type_hint={"description": "Not needed."},
)
