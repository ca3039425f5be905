from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

_BOOKS = "/v1/"
_REFUSED = 400


class ResponseHeaders:
    """Tells browsers and caches what they may do with an answer, unless the answer says so itself.

    Nobody guesses a media type or tells another site where a link was followed. An error is not kept; what
    stands under `/v1` is for one user and asked for again each time (`ETag` makes that cheap). `hsts_seconds`
    is for who serves over TLS alone: browsers then refuse plain HTTP for so long (RFC 6797); 0 says nothing.
    """

    def __init__(self, app: ASGIApp, *, hsts_seconds: int) -> None:
        self._app = app
        self._hsts = f"max-age={hsts_seconds}" if hsts_seconds else ""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: hand on, and add to the head of the answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        is_private = scope["path"].startswith(_BOOKS)

        async def marked(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._mark(MutableHeaders(scope=message), message["status"], is_private=is_private)
            await send(message)

        await self._app(scope, receive, marked)

    def _mark(self, headers: MutableHeaders, status: int, *, is_private: bool) -> None:
        headers["X-Content-Type-Options"] = "nosniff"
        headers["Referrer-Policy"] = "no-referrer"
        if self._hsts:
            headers["Strict-Transport-Security"] = self._hsts
        if status >= _REFUSED:
            headers["Cache-Control"] = "no-store"
        elif is_private:
            headers.setdefault("Cache-Control", "private, no-cache")
            headers.add_vary_header("Authorization")
        else:
            headers.setdefault("Cache-Control", "no-cache")
