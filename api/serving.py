"""The process that serves: what it needs before it starts, and how it ends."""

import asyncio
import logging
import os
import signal
import socket
from functools import partial
from types import FrameType
from typing import cast

import uvicorn
from fastapi import FastAPI

from api.app import create_app
from api.connections import Doorkeeper, GuardedProtocol
from api.handshakes import Handshake
from api.settings import ApiSettings
from common import interrupts
from common.database import thread_engine
from common.errors import StartError
from common.logs import configure_logging
from common.open_files import files_for
from common.schema import await_known_schema

# Behind it, a commit that is under way may take its three seconds (docs/adr/0013).
_GRACE_SECONDS = 4
_BACKLOG = 2048
_TICKS = 5
_LOG = logging.getLogger(__name__)


class Server(uvicorn.Server):
    """uvicorn's, with an orderly end, and an eye on connections that keep it waiting.

    It ends, too, when one of the application's works, which last as long as it serves, has failed: `fault`.
    """

    def __init__(self, app: FastAPI, settings: ApiSettings) -> None:
        self._state = app.state
        self.fault: BaseException | None = None
        self._doorkeeper = Doorkeeper(
            connections_max=files_for(settings.connections_max),
            head_max_bytes=settings.head_max_bytes,
            refusals=app.state.refusals,
            origins=settings.origins,
        )
        tls = settings.api_tls.context()
        guarded = partial(GuardedProtocol, doorkeeper=self._doorkeeper)
        handshake = partial(Handshake, guarded=guarded, doorkeeper=self._doorkeeper)
        super().__init__(
            uvicorn.Config(
                app,
                loop="uvloop",
                http=cast("type[asyncio.Protocol]", partial(handshake, context=tls) if tls else guarded),
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                proxy_headers=False,
                timeout_graceful_shutdown=_GRACE_SECONDS,
                backlog=_BACKLOG,
            )
        )

    async def on_tick(self, counter: int) -> bool:
        """What uvicorn does ten times a second."""
        if counter % _TICKS == 0:
            now = asyncio.get_running_loop().time()
            self._doorkeeper.look_after(self.server_state.connections, now)
            # Who is denied, and with which keys tokens are signed, would stay as it is now for ever.
            works = getattr(self._state, "works", ())  # none before the application has started
            ended = [work for work in works if work.done() and not work.cancelled()]
            self.fault = next(filter(None, (work.exception() for work in ended)), None)
            self.should_exit = self.should_exit or self.fault is not None
        return await super().on_tick(counter)

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:  # noqa: ARG002  uvicorn's signature
        """Any signal, however often, means the same orderly end.

        uvicorn's own handler makes a second SIGINT cut the requests in hand, and raises the signal again
        when all is done, so that the process would end with -15 and not with 0.
        """
        self.should_exit = True


def serve() -> int:
    """Serve until SIGTERM or SIGINT, then finish what is in hand (four seconds at most, and a commit); 0.

    A work of the application that fails ends it likewise, and is raised. StartError when the environment, the
    schema, the port or the signing keys are not right.
    """
    interrupts.end_at_once()
    settings = ApiSettings.from_environment()
    configure_logging(settings.log_level)
    app = create_app(settings)
    engine = thread_engine(settings)
    try:
        await_known_schema(engine)
    finally:
        engine.dispose()
    logging.getLogger("uvicorn.error").setLevel(logging.WARNING)
    with listening(settings.bind_host, settings.api_port) as listener:
        has_tls = settings.api_tls_certificate is not None
        _LOG.info("serving", extra={"host": settings.bind_host, "port": settings.api_port, "tls": has_tls})
        server = Server(app, settings)
        for number in interrupts.SIGNALS:
            signal.signal(number, server.handle_exit)  # uvicorn's loop, which does the same, is yet to begin
        server.run(sockets=[listener])
    interrupts.ignore()
    if server.fault is not None:
        raise server.fault
    _LOG.info("served")
    return 0


def listening(host: str, port: int) -> socket.socket:
    """A socket that listens on that port, or on any free one for 0; StartError when it may not."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        reason = os.strerror(error.errno) if error.errno else "the host is not known"
        raise StartError(
            f"Cannot listen on {host} port {port} ({reason}):"
            " free it, or choose another with API_PORT or BIND_HOST."
        ) from None
