"""Swagger UI, a reference to read, and the description that both show.

All of it comes from this process, none from the internet.
"""

from mimetypes import guess_type
from pathlib import Path
from typing import Any

from fastapi import FastAPI
from fastapi.openapi.utils import get_openapi
from starlette.requests import Request
from starlette.responses import JSONResponse, RedirectResponse, Response
from starlette.routing import Route

from api.admission import RATED
from api.problems import HEAD_TOO_LARGE, METHODS, OPTIONS, TOO_SLOW, Problem, described, wrong_method
from api.ready_made import ReadyMade

OPENAPI_PATH = "/openapi.json"
_STATIC = Path(__file__).parent / "static"
# Both set styles of single elements; Swagger UI has its pictures within itself.
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:;"
    " connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
# Nobody opens a script or a picture as a page, or within one.
_POLICY_OF_PARTS = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
# A page has an address of its own, and none under /static.
_PAGE = ".html"
DESCRIPTION = """
Books. Each committed change is announced to whoever listens, none is lost, and none is made up.

**Log in** with *Authorize* (user name and password; leave the client fields empty) or with
`POST /v1/auth/token`, then send `Authorization: Bearer <access token>`.

Every address that answers to GET answers to HEAD as well, and every one to OPTIONS, with `Allow`.

A [reference](/reference) to read, and a page [to try calls out](/docs).

**Errors** are `application/problem+json` ([RFC 9457](https://www.rfc-editor.org/rfc/rfc9457)): `type` is
stable, `detail` is for people, `errors` points at the faults of the input, the first twenty.
"""
LICENSE = {"name": "All rights reserved", "identifier": "LicenseRef-All-Rights-Reserved"}
SERVERS = [{"url": "/", "description": "Where this description comes from."}]
TAGS = [
    {"name": "books", "description": "Read and change books."},
    {"name": "auth", "description": "Tokens, and the public keys that they are verified with."},
]
# draft-ietf-httpapi-ratelimit-headers. An operator may switch all limits off.
_RATES = {
    "RateLimit-Policy": {
        "description": "How many calls each policy allows (`q`) in so many seconds (`w`).",
        "schema": {"type": "string", "examples": ['"address";q=2000;w=1, "user";q=1000;w=1']},
        "required": False,
    },
    "RateLimit": {
        "description": "How many calls are left (`r`) of each policy for so many seconds (`t`).",
        "schema": {"type": "string", "examples": ['"address";r=1985;t=1, "user";r=993;t=1']},
        "required": False,
    },
}
# Said of a connection, before anybody has counted the call.
_UNCOUNTED = {str(kind.status) for kind in (TOO_SLOW, HEAD_TOO_LARGE)}


async def _home(_: Request) -> Response:
    return RedirectResponse("/docs")


def docs_routes(app: FastAPI) -> list[Route]:
    """`/docs`, `/reference`, what they are made of, the description of `app`, and `/`, which leads there."""
    return [Route("/", _home), *(Route(path, page, methods=["GET"]) for path, page in _ready(app).items())]


def _ready(app: FastAPI) -> dict[str, ReadyMade]:
    files = [path for path in sorted(_STATIC.rglob("*")) if path.is_file() and path.suffix != _PAGE]
    return {
        "/docs": _file(_STATIC / "docs.html", _POLICY),
        "/reference": _file(_STATIC / "reference.html", _POLICY),
        OPENAPI_PATH: ReadyMade(bytes(JSONResponse(app.openapi()).body), JSONResponse.media_type),
        **{f"/static/{path.relative_to(_STATIC)}": _file(path, _POLICY_OF_PARTS) for path in files},
    }


def _file(path: Path, policy: str) -> ReadyMade:
    media_type = guess_type(path.name)[0] or "text/plain"
    return ReadyMade(path.read_bytes(), media_type, {"Content-Security-Policy": policy})


def describe(app: FastAPI) -> None:
    """Let `/openapi.json` carry the schema that `problems.responses` refers to, and what holds for all calls.

    That is 405, and the headers that tell of rates.
    """

    def openapi() -> dict[str, Any]:
        if app.openapi_schema is None:
            schema = get_openapi(
                title=app.title,
                version=app.version,
                description=app.description,
                routes=app.routes,
                tags=app.openapi_tags,
                servers=app.servers,
                license_info=app.license_info,
            )
            problem = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            schemas = schema.setdefault("components", {}).setdefault("schemas", {})
            schemas |= problem.pop("$defs", {}) | {"Problem": problem}
            for path, operations in schema["paths"].items():
                _describe_other_methods(operations)
                if path.startswith(RATED):
                    _describe_rates(operations)
            schema["components"]["headers"] = _RATES
            app.openapi_schema = schema
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]  # as FastAPI's manual says, "Extending OpenAPI"


def _describe_other_methods(operations: dict[str, Any]) -> None:
    known = {method.upper() for method in operations} | ({"HEAD"} if "get" in operations else set())
    allowed = [*(method for method in METHODS if method in known), OPTIONS]
    header = {"description": "All methods.", "schema": {"type": "string", "examples": [", ".join(allowed)]}}
    response = described([wrong_method(allowed)]) | {"headers": {"Allow": header}}
    for operation in operations.values():
        operation["responses"] = dict(sorted({**operation["responses"], "405": response}.items()))


def _describe_rates(operations: dict[str, Any]) -> None:
    referred = {name: {"$ref": f"#/components/headers/{name}"} for name in _RATES}
    for operation in operations.values():
        for status, response in operation["responses"].items():
            if status not in _UNCOUNTED:
                response["headers"] = {**response.get("headers", {}), **referred}
