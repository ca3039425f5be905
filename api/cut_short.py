import asyncio
import logging

from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.problems import unknown_outcome

SO_FAR = "bookstore.so-far"
"""Where, in the scope, a call that is done in parts says how far it is, for who may cut it short."""
_DETAIL = "The server was stopped before it was done; look what is stored."
_STOPPED = "The server was stopped before it was done."

_LOG = logging.getLogger(__name__)


class CutShort:
    """Answers what a stopping server has no time left for: 503, and the outcome is unknown.

    uvicorn cancels a request for no other reason. By itself it would answer 500, and log the cancellation.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """ASGI: hand on, and answer if that was cancelled before it had begun to."""
        begun = False

        async def noted(message: Message) -> None:
            nonlocal begun
            begun = True
            await send(message)

        try:
            await self._app(scope, receive, noted)
        except asyncio.CancelledError:
            if scope["type"] != "http":
                raise
            if begun:
                # The server ends the connection when nothing more comes and the body is not whole.
                _LOG.warning("answer cut off", extra={"path": scope["path"]})
                return
            detail = f"{_STOPPED} {scope[SO_FAR]}" if SO_FAR in scope else _DETAIL
            await unknown_outcome(scope, detail)(scope, receive, send)
