from fastapi import HTTPException
from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import STATUSES, answer

_BOOKS, _PASSWORD = "/v1/books", "/v1/auth/password"
_JSON = frozenset({"application/json"})
_PATCH = frozenset({"application/json", "application/merge-patch+json"})
_ACCEPTED = {"POST": _JSON, "PUT": _JSON, "PATCH": _PATCH}


class Limits:
    """Refuses bodies that are too large (413) or no JSON where JSON is due (415), before they are read.

    The routes in `streamed` take bodies of any length and look at the media type themselves.
    """

    def __init__(self, app: ASGIApp, *, body_max_bytes: int, streamed: frozenset[str]) -> None:
        self._app = app
        self._body_max_bytes = body_max_bytes
        self._streamed = streamed
        self._too_large = f"The body must not exceed {body_max_bytes} bytes."

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: refuse, or hand on with the body counted as it comes."""
        # A GET has a body only if somebody means mischief, and no route reads it.
        if (
            scope["type"] != "http"
            or scope["method"] in {"GET", "HEAD"}
            or (path := scope["path"]) in self._streamed
        ):
            await self._app(scope, receive, send)
            return
        headers = Headers(scope=scope)
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._body_max_bytes:
            await answer(STATUSES[413], self._too_large)(scope, receive, send)
            return
        accepted = _ACCEPTED.get(scope["method"]) if path.startswith((_BOOKS, _PASSWORD)) else None
        if accepted and not _is_accepted(headers, accepted):
            names = " or ".join(sorted(accepted))
            await answer(STATUSES[415], f"Send the body as {names}.")(scope, receive, send)
            return
        await self._app(scope, self._counted(receive), send)

    def _counted(self, receive: Receive) -> Receive:
        total = 0

        async def counted() -> Message:
            nonlocal total
            message = await receive()
            total += len(message.get("body", b""))
            if total > self._body_max_bytes:
                raise HTTPException(413, self._too_large)
            return message

        return counted


def _is_accepted(headers: Headers, accepted: frozenset[str]) -> bool:
    """Whether the body's media type will do; without a body it is for validation to say what is missing."""
    media_type = headers.get("content-type")
    if media_type is None:
        return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    return media_type.partition(";")[0].strip().lower() in accepted
