from collections.abc import Mapping
from hashlib import sha256

from starlette.datastructures import Headers
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

# uvicorn waits for the client when it has 64 KiB to send.
_PIECE_BYTES = 65_536


class ReadyMade:
    """ASGI: an answer that is the same for everybody, made once; who has it already gets 304 (`ETag`).

    All that are sent share its bytes, piece by piece, so that a client who reads slowly costs its connection
    and a piece, also behind TLS. `Range` is ignored (RFC 9110, section 14.2).
    """

    def __init__(self, body: bytes, media_type: str, headers: Mapping[str, str] | None = None) -> None:
        self._pieces = [body[begin : begin + _PIECE_BYTES] for begin in range(0, len(body), _PIECE_BYTES)]
        self._etag = f'"{sha256(body).hexdigest()[:32]}"'
        tagged = {**(headers or {}), "ETag": self._etag}
        length = {"Content-Length": str(len(body))}
        self._head = Response(media_type=media_type, headers={**tagged, **length}).raw_headers
        self._unchanged = Response(status_code=304, headers=tagged).raw_headers

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002  ASGI's
        """Send it; the server leaves out what is behind the head of an answer to HEAD."""
        is_known = self._is_known(Headers(scope=scope).getlist("if-none-match"))
        status, head = (304, self._unchanged) if is_known else (200, self._head)
        await send({"type": "http.response.start", "status": status, "headers": [*head]})
        if not is_known:
            for piece in self._pieces:
                await send({"type": "http.response.body", "body": piece, "more_body": True})
        await send({"type": "http.response.body"})

    def _is_known(self, tags: list[str]) -> bool:
        named = {tag.strip().removeprefix("W/") for tag in ",".join(tags).split(",")}
        return not named.isdisjoint({"*", self._etag})
