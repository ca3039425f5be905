import socket
import threading
import time
from collections.abc import Mapping
from typing import Any

import anyio.to_thread
import uvicorn
from sqlalchemy import Engine
from starlette.applications import Starlette

from common.cache import thread_redis
from common.errors import BookstoreError, StartError
from common.health import Check, health_routes
from outbox_relay.metrics import RelayMetrics
from outbox_relay.outbox import Backlog, read_backlog
from outbox_relay.relay import Relay
from outbox_relay.settings import RelaySettings

_BACKLOG_REMEMBERED_SECONDS = 1.0


class Health:
    """The relay's health over HTTP, in a thread of its own.

    A lost broker makes the relay not ready and leaves it alive. The backlog is counted once a second at most,
    however often it is asked for.
    """

    def __init__(self, settings: RelaySettings, engine: Engine, relay: Relay, metrics: RelayMetrics) -> None:
        self._engine = engine
        self._relay = relay
        self._metrics = metrics
        self._backlog = Backlog(0, None)
        self._counted_at = float("-inf")
        checks: dict[str, Check] = {"database": self._check_database, "broker": self._check_broker}
        if settings.cache_url is not None:
            self._redis = thread_redis(settings.cache_url, settings.cache_tls, socket_timeout=1)
            checks["cache"] = self._check_cache
        routes = health_routes(
            checks, metrics.registry, required=frozenset({"database", "broker"}), facts=self._facts
        )
        self._socket = _listening_socket(settings.bind_host, settings.relay_health_port)
        config = uvicorn.Config(
            Starlette(routes=routes),
            log_config=None,
            access_log=False,
            lifespan="off",
            # Whoever keeps a connection open must not keep this thread beyond the end of the others.
            timeout_graceful_shutdown=1,
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [self._socket]}, name="health", daemon=True
        )

    def start(self) -> None:
        """Answer from now on."""
        self._thread.start()

    def close(self) -> None:
        """Answer no more."""
        self._server.should_exit = True
        self._thread.join(timeout=2)
        self._socket.close()

    async def _check_database(self) -> None:
        await anyio.to_thread.run_sync(self._count_backlog)

    async def _check_broker(self) -> None:
        if not self._relay.connected:
            raise ConnectionError("no connection to the broker")

    async def _check_cache(self) -> None:
        await anyio.to_thread.run_sync(self._redis.ping)

    async def _facts(self) -> Mapping[str, Any]:
        return {
            "backlog": self._backlog.rows,
            "oldest_unsent_seconds": self._backlog.oldest_unsent_seconds,
        }

    def _count_backlog(self) -> None:
        if time.monotonic() - self._counted_at < _BACKLOG_REMEMBERED_SECONDS:
            return
        try:
            self._backlog = read_backlog(self._engine)
        except BookstoreError:
            self._counted_at = float("-inf")
            raise
        self._counted_at = time.monotonic()
        self._metrics.backlog.set(self._backlog.rows)


def _listening_socket(host: str, port: int) -> socket.socket:
    """Bound at once, so that a port in use ends the process with a sentence and not a thread with a trace."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise StartError(
            f"Cannot listen on {host}:{port} ({error.strerror}): set RELAY_HEALTH_PORT to a free port."
        ) from error
