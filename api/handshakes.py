"""Connections that have yet to agree on TLS, and what they may cost (docs/adr/0019).

An event loop that is given a TLS context for its listener shows a connection after its handshake: before, it
keeps any number, for a minute each.
"""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable
from functools import partial
from typing import Any

from uvicorn.server import ServerState

from api import connections
from api.connections import Doorkeeper, GuardedProtocol
from api.problems import TOO_SLOW


class Handshake(asyncio.Protocol):
    """A connection until both sides agree on TLS; then `guarded`, which is given what uvicorn gives, has it.

    It has a place among all connections and makes room for others as they do, and as long as a head. One that
    fails is told nothing, for it could not read that.
    """

    def __init__(
        self,
        *,
        guarded: Callable[..., GuardedProtocol],
        context: ssl.SSLContext,
        doorkeeper: Doorkeeper,
        server_state: ServerState,
        **uvicorns: Any,  # noqa: ANN401  uvicorn's own
    ) -> None:
        self._guarded = partial(guarded, server_state=server_state, **uvicorns)
        self._context = context
        self._doorkeeper = doorkeeper
        self._connections: set[Any] = server_state.connections

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin, perhaps in the place of another connection.

        start_tls() would lose what comes before it begins: uvloop reads on, whatever is asked of it here. So
        TLS begins anew on the same connection.
        """
        try:
            self._socket = transport.get_extra_info("socket").dup()
        except OSError:
            return
        finally:
            transport.abort()
        loop = asyncio.get_running_loop()
        self._since = loop.time()
        self._connections.add(self)
        if self._doorkeeper.has_room(self, self._connections):
            self._task = loop.create_task(self._agree(loop))
        else:
            self._socket.close()

    def look_after(self, now: float) -> None:
        """End it if it takes too long."""
        if now - self._since >= connections.HEAD_SECONDS:
            self._doorkeeper.refusals.count(TOO_SLOW.name)
            self.give_way()

    def shutdown(self) -> None:
        """End it: what uvicorn calls when the process is to end."""
        self.give_way()

    def give_way(self) -> None:
        """End it; the loop hears of that as if the other side had gone."""
        self._leave()
        with contextlib.suppress(OSError):  # it has gone
            self._socket.shutdown(socket.SHUT_RDWR)

    def hand_over(self, encrypted: asyncio.Transport) -> None:
        """Let requests come."""
        self._leave()
        guarded = self._guarded()
        encrypted.set_protocol(guarded)
        guarded.connection_made(encrypted)

    async def _agree(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            await loop.connect_accepted_socket(partial(_Agreed, self), self._socket, ssl=self._context)
        except OSError:
            pass
        finally:
            self._leave()

    def _leave(self) -> None:
        self._connections.discard(self)
        self._doorkeeper.waiting.pop(self, None)


class _Agreed(asyncio.Protocol):
    """What the loop calls when a handshake is done."""

    def __init__(self, handshake: Handshake) -> None:
        self._handshake = handshake

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._handshake.hand_over(transport)
