import socket
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn
from sqlalchemy import text
from starlette.applications import Starlette

from common.cache import BookCache
from common.database import Database
from common.errors import StartError
from common.health import health_routes
from grpc_reader.consumer import Consumer
from grpc_reader.gaps import Gaps
from grpc_reader.metrics import ReaderMetrics


class HealthServer(uvicorn.Server):
    """`/livez`, `/readyz` and `/metrics` in the loop of the process, whose signals stay the process' own."""

    def __init__(
        self, database: Database, cache: BookCache, consumer: Consumer, gaps: Gaps, metrics: ReaderMetrics
    ) -> None:
        async def ask_database() -> None:
            async with database.read() as connection:
                await connection.execute(text("SELECT 1"))

        async def ask_broker() -> None:
            if not consumer.connected:
                raise ConnectionError

        checks = {"database": ask_database, "broker": ask_broker, "cache": cache.ping}
        # A gap is somebody else's missing event: the reader does what it can, so it stays ready.
        routes = health_routes(
            checks, metrics.registry, required=frozenset({"database", "broker"}), facts=gaps.facts
        )
        super().__init__(
            uvicorn.Config(
                Starlette(routes=routes),
                log_config=None,
                log_level="warning",
                access_log=False,
                lifespan="off",
                timeout_graceful_shutdown=1,
            )
        )

    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave them alone."""
        yield


def listen(host: str, port: int) -> socket.socket:
    """A listening socket; StartError when the port is taken, before anything else has started."""
    try:
        return socket.create_server((host, port), family=socket.AF_INET6 if ":" in host else socket.AF_INET)
    except OSError as error:
        raise StartError(
            f"Cannot listen on {host}:{port} ({error.strerror}): set READER_HEALTH_PORT to a free port."
        ) from None
