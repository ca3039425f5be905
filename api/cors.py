from collections.abc import Sequence

from starlette.datastructures import Headers
from starlette.middleware.cors import CORSMiddleware
from starlette.responses import Response
from starlette.types import ASGIApp

from api.problems import METHODS

_SECONDS = 600
_SENT = (
    "Authorization",
    "Content-Type",
    "Idempotency-Key",
    "If-Match",
    "If-None-Match",
    "traceparent",
    "tracestate",
)
_READ = (
    "Allow",
    "ETag",
    "Idempotent-Replayed",
    "Link",
    "Location",
    "RateLimit",
    "RateLimit-Policy",
    "Retry-After",
    "WWW-Authenticate",
)


def readable_from(origin: str, origins: Sequence[str]) -> dict[str, str]:
    """The headers of an answer that the application did not make, for a request from a page of `origin`."""
    if not origins:
        return {}
    if origin not in origins:
        return {"Vary": "Origin"}
    exposed = ", ".join(_READ)
    return {"Access-Control-Allow-Origin": origin, "Access-Control-Expose-Headers": exposed, "Vary": "Origin"}


class Cors(CORSMiddleware):
    """Lets pages of these origins call the API (https://fetch.spec.whatwg.org/#http-cors-protocol).

    Cookies play no part, so none are allowed: a page has a token of its own or none.
    """

    def __init__(self, app: ASGIApp, origins: Sequence[str]) -> None:
        super().__init__(
            app,
            allow_origins=origins,
            allow_methods=METHODS,
            allow_headers=_SENT,
            expose_headers=_READ,
            max_age=_SECONDS,
        )

    def preflight_response(self, request_headers: Headers) -> Response:
        """What is allowed; a browser finds out by itself that something else is not."""
        made = super().preflight_response(request_headers)
        headers = {name: value for name, value in made.headers.items() if not name.startswith("content-")}
        return Response(status_code=204, headers=headers)
