import asyncio
from collections import deque

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import STATUSES, TOO_SLOW, answer

_BOOKS, _PASSWORD = "/v1/books", "/v1/auth/password"
_BODY_SECONDS = 30
_CLOSE = {"Connection": "close"}
_JSON = frozenset({"application/json"})
_PATCH = frozenset({"application/json", "application/merge-patch+json"})
_ACCEPTED = {"POST": _JSON, "PUT": _JSON, "PATCH": _PATCH}


class Limits:
    """Refuses bodies that are too large (413) or no JSON where JSON is due (415), before they are read.

    A request goes on when all of its body is there, so that a slow client (408 after half a minute) takes up
    nobody's place. The routes in `streamed` take bodies of any length and look at the media type themselves.
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
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                messages = await self._whole_body(receive)
        except TimeoutError:
            await answer(TOO_SLOW, TOO_SLOW.example, headers=_CLOSE)(scope, receive, send)
            return
        if messages is None:
            await answer(STATUSES[413], self._too_large)(scope, receive, send)
            return
        await self._app(scope, _followed_by(receive, messages), send)

    async def _whole_body(self, receive: Receive) -> deque[Message] | None:
        """All messages of the body, the last may say that the client has left; None when it is too large."""
        total = 0
        messages: deque[Message] = deque()
        while True:
            message = await receive()
            messages.append(message)
            total += len(message.get("body", b""))
            if total > self._body_max_bytes:
                return None
            if not message.get("more_body", False):
                return messages


def _followed_by(receive: Receive, messages: deque[Message]) -> Receive:
    async def replayed() -> Message:
        return messages.popleft() if messages else await receive()

    return replayed


def _is_accepted(headers: Headers, accepted: frozenset[str]) -> bool:
    """Whether the body's media type will do; without a body it is for validation to say what is missing."""
    media_type = headers.get("content-type")
    if media_type is None:
        return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    return media_type.partition(";")[0].strip().lower() in accepted
