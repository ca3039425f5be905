import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
from grpc import StatusCode, aio
from grpc_status import rpc_status

from common.tokens import Principal
from grpc_reader.authentication import Authentication, is_open
from grpc_reader.errors import ANSWERED, to_status
from grpc_reader.gate import Gate
from grpc_reader.limits import GrpcLimits
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.open_streams import in_room

_NAMES = {code.value[0]: code.name for code in StatusCode}
# Whoever watches health or asks what there is; anybody may, so that they must not be many.
_OPEN_STREAMS = 100
_LOG = logging.getLogger(__name__)

# grpc's own classes are generic for the type checker only.
Handler = Any
Context = aio.ServicerContext[Any, Any]


class CallInterceptor(aio.ServerInterceptor):
    """Around every call that is not open: room for it, the token, the call, and one answer to any error."""

    def __init__(self, authentication: Authentication, limits: GrpcLimits, metrics: ReaderMetrics) -> None:
        self._authentication = authentication
        self._room = Gate(limits.grpc_max_calls, "calls")
        self._stream_room = Gate(limits.grpc_max_watchers, "streams")
        self._open_room = Gate(_OPEN_STREAMS, "streams that need no token")
        self._calls = metrics.calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of the call, guarded; an unknown call is left to gRPC, which says UNIMPLEMENTED."""
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if is_open(method):
            return in_room(self._open_room, handler)
        if handler.response_streaming:
            stream = handler.unary_stream

            async def guarded_stream(request: Any, context: Context) -> AsyncIterator[Any]:  # noqa: ANN401
                async with self._guard(method, self._stream_room, context) as principal:
                    with self._authentication.admitted(principal) as admission:
                        async for response in stream(request, context):
                            admission.check()
                            yield response

            return grpc.unary_stream_rpc_method_handler(
                guarded_stream, handler.request_deserializer, handler.response_serializer
            )
        unary = handler.unary_unary

        async def guarded_unary(request: Any, context: Context) -> Any:  # noqa: ANN401  any call's message
            async with self._guard(method, self._room, context):
                return await unary(request, context)

        return grpc.unary_unary_rpc_method_handler(
            guarded_unary, handler.request_deserializer, handler.response_serializer
        )

    @asynccontextmanager
    async def _guard(self, method: str, room: Gate, context: Context) -> AsyncIterator[Principal]:
        # A call is counted before its answer goes out: whoever has that may look at the figures.
        try:
            with room.passage():
                yield await self._authentication.check(context.invocation_metadata() or ())
        except (asyncio.CancelledError, GeneratorExit):
            self._calls.labels(method, StatusCode.CANCELLED.name).inc()
            raise
        except Exception as error:  # noqa: BLE001  the outermost edge of a call
            status = to_status(error)
            self._calls.labels(method, _NAMES[status.code]).inc()
            if not isinstance(error, ANSWERED):
                # Without this, gRPC would send the message to the client, whatever stands in it.
                _LOG.exception("call failed", extra={"method": method})
            await context.abort_with_status(rpc_status.to_status(status))
        else:
            self._calls.labels(method, StatusCode.OK.name).inc()
