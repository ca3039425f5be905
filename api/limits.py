import asyncio

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.media_types import is_utf_8
from api.problems import STATUSES, TOO_SLOW, answer

_ALL, _BOOKS, _PASSWORD = "/v1/", "/v1/books", "/v1/auth/password"
_BODY_SECONDS = 30
_CLOSE = {"Connection": "close"}
_JSON = frozenset({"application/json"})
_PATCH = frozenset({"application/json", "application/merge-patch+json"})
_TYPE_MAX_LENGTH = 256
_LONG_TYPE = f"Name the media type, with its parameters, in {_TYPE_MAX_LENGTH} characters at most."
_CODED = "Send the body plain, without Content-Encoding."
# What would be taken instead (RFC 9110, section 15.5.16).
_PLAIN = {"Accept-Encoding": "identity"}
_ACCEPTED = {"POST": _JSON, "PUT": _JSON, "PATCH": _PATCH}


class Limits:
    """Refuses bodies, before they are read, that are too large (413), coded, or no JSON where due (415).

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
        if scope["type"] != "http" or scope["method"] in {"GET", "HEAD"}:
            await self._app(scope, receive, send)
            return
        if refusal := self._refusal(scope):
            await refusal(scope, receive, send)
            return
        if scope["path"] in self._streamed:
            await self._app(scope, receive, send)
            return
        try:
            async with asyncio.timeout(_BODY_SECONDS):
                body = await self._whole_body(receive)
        except TimeoutError:
            await answer(TOO_SLOW, TOO_SLOW.example, headers=_CLOSE)(scope, receive, send)
            return
        if body is None:
            await answer(STATUSES[413], self._too_large)(scope, receive, send)
            return
        await self._app(scope, _followed_by(receive, body), send)

    def _refusal(self, scope: Scope) -> Response | None:
        """What the head alone calls for."""
        path, method, headers = scope["path"], scope["method"], Headers(scope=scope)
        if path.startswith(_ALL) and method in _ACCEPTED:
            if not _is_plain(headers):
                return answer(STATUSES[415], _CODED, headers=_PLAIN)
            # Parameters are read in a time that grows with the square of their number.
            if len(headers.get("content-type", "")) > _TYPE_MAX_LENGTH:
                return answer(STATUSES[415], _LONG_TYPE)
        if path in self._streamed:
            return None
        length = headers.get("content-length", "")
        if length.isdecimal() and int(length[:20]) > self._body_max_bytes:
            return answer(STATUSES[413], self._too_large)
        accepted = _ACCEPTED.get(method) if path.startswith((_BOOKS, _PASSWORD)) else None
        if accepted and not _is_accepted(headers, accepted):
            return answer(STATUSES[415], f"Send the body as {' or '.join(sorted(accepted))} in UTF-8.")
        return None

    async def _whole_body(self, receive: Receive) -> Message | None:
        """The body in one message, or that which says that the client has left; None when it is too large.

        Kept as they come, messages of a byte each would take up some hundred times the body.
        """
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] != "http.request":
                return message
            body += message.get("body", b"")
            if len(body) > self._body_max_bytes:
                return None
            if not message.get("more_body", False):
                return {"type": "http.request", "body": bytes(body), "more_body": False}


def _followed_by(receive: Receive, first: Message) -> Receive:
    messages = [first]

    async def replayed() -> Message:
        return messages.pop() if messages else await receive()

    return replayed


def _is_accepted(headers: Headers, accepted: frozenset[str]) -> bool:
    """Whether the body's media type will do; without a body it is for validation to say what is missing."""
    media_type = headers.get("content-type")
    if media_type is None:
        return headers.get("content-length", "0") == "0" and "transfer-encoding" not in headers
    return media_type.partition(";")[0].strip().lower() in accepted and is_utf_8(media_type)


def _is_plain(headers: Headers) -> bool:
    """Whether no content coding was applied; `identity` is none (RFC 9110, section 8.4.1)."""
    codings = ",".join(headers.getlist("content-encoding")).split(",")
    return all(coding.strip().lower() in {"", "identity"} for coding in codings)
