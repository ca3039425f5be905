"""What `grpc.health.v1` is told."""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

from grpc import StatusCode, aio
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_health.v1.health_pb2 import HealthCheckResponse

Context = aio.ServicerContext[Any, Any]


class ServingStatus(health_pb2_grpc.HealthServicer):  # type: ignore[misc]  # generated
    """SERVING for each of the `names` until `stop`, then NOT_SERVING; the empty name is the whole server.

    That of grpcio-health-checking writes to a watcher under the lock that the change of a status needs: one
    who does not read would keep the status from all others, and the process from its end.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self._names = frozenset(names)
        self._stopped = asyncio.Event()

    def stop(self) -> None:
        """Tell whoever asks, and all watchers, to go elsewhere."""
        self._stopped.set()

    async def Check(self, request: health_pb2.HealthCheckRequest, context: Context) -> HealthCheckResponse:  # noqa: N802
        """The status; NOT_FOUND for a name that there is not."""
        if request.service not in self._names:
            await context.abort(StatusCode.NOT_FOUND, "There is no such service.")
        return HealthCheckResponse(status=self._status)

    async def Watch(  # noqa: N802
        self, request: health_pb2.HealthCheckRequest, _: Context
    ) -> AsyncIterator[HealthCheckResponse]:
        """The status and each change of it; SERVICE_UNKNOWN for a name that there is not. It never ends."""
        if request.service in self._names:
            told = self._status
            yield HealthCheckResponse(status=told)
            await self._stopped.wait()
            # It may have stopped while that was on its way to the watcher.
            if told != self._status:
                yield HealthCheckResponse(status=self._status)
        else:
            yield HealthCheckResponse(status=HealthCheckResponse.SERVICE_UNKNOWN)
        await asyncio.Event().wait()

    @property
    def _status(self) -> HealthCheckResponse.ServingStatus:
        return HealthCheckResponse.NOT_SERVING if self._stopped.is_set() else HealthCheckResponse.SERVING
