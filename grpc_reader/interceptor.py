import asyncio
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import ExitStack, asynccontextmanager
from typing import Any

import grpc
from grpc import StatusCode, aio
from grpc_status import rpc_status

from grpc_reader.authentication import Authentication, is_open
from grpc_reader.callers import CALLER
from grpc_reader.errors import ANSWERED, to_status
from grpc_reader.gate import Gate, Shares
from grpc_reader.limits import GrpcLimits
from grpc_reader.metrics import ReaderMetrics
from grpc_reader.open_calls import OpenCalls
from grpc_reader.request_message import one_message

_NAMES = {code.value[0]: code.name for code in StatusCode}
_LOG = logging.getLogger(__name__)

# grpc's own classes are generic for the type checker only.
Handler = Any
Context = aio.ServicerContext[Any, Any]


class CallInterceptor(aio.ServerInterceptor):
    """Around every call that is not open: the token, its message, room for it, and one answer to any error.

    A caller without a token so holds nothing, and one who is slow to send the message, or to read the answer,
    holds nobody's room but their own.
    """

    def __init__(self, authentication: Authentication, limits: GrpcLimits, metrics: ReaderMetrics) -> None:
        self._authentication = authentication
        self._room = Gate(limits.grpc_max_calls, "calls")
        self._stream_room = Gate(limits.grpc_max_watchers, "streams")
        self._user_calls = Shares(limits.grpc_max_user_calls, "calls of this user")
        self._user_streams = Shares(limits.grpc_max_user_watchers, "streams of this user")
        self._open_calls = OpenCalls()
        self._calls = metrics.calls

    async def intercept_service(
        self,
        continuation: Callable[[grpc.HandlerCallDetails], Awaitable[Handler]],
        handler_call_details: grpc.HandlerCallDetails,
    ) -> Handler:
        """The handler of the call, guarded, or one that refuses whoever has no good token.

        An unknown call is left to gRPC, which says UNIMPLEMENTED.
        """
        handler = await continuation(handler_call_details)
        method = handler_call_details.method
        if handler is None:
            return None
        if is_open(method):
            return self._open_calls.guarded(handler)
        try:
            principal = await self._authentication.check(handler_call_details.invocation_metadata or ())
        except Exception as error:  # noqa: BLE001  the outermost edge of a call
            return _refusing(self._counted(method, error))
        parse = handler.request_deserializer
        # As streams of requests, all of them: so the handler has the call before its message is there.
        if handler.response_streaming:
            stream = handler.unary_stream

            async def guarded_stream(_: object, context: Context) -> None:
                async with self._guard(method, context):
                    self._user_streams.take(principal.username, context)
                    CALLER.set(principal.username)
                    request = await one_message(context, parse)
                    with ExitStack() as place, self._authentication.admitted(principal) as admission:
                        place.enter_context(self._stream_room.passage())
                        # Also while an answer waits to be read, which may be for ever.
                        admission.on_denied = place.close
                        async for response in admission.while_admitted(stream(request, context)):
                            await _write(context, response)

            return grpc.stream_stream_rpc_method_handler(guarded_stream, None, handler.response_serializer)
        unary = handler.unary_unary

        async def guarded_unary(_: object, context: Context) -> Any:  # noqa: ANN401  any call's message
            async with self._guard(method, context):
                self._user_calls.take(principal.username, context)
                CALLER.set(principal.username)
                request = await one_message(context, parse)
                with self._room.passage():
                    return await unary(request, context)

        return grpc.stream_unary_rpc_method_handler(guarded_unary, None, handler.response_serializer)

    @asynccontextmanager
    async def _guard(self, method: str, context: Context) -> AsyncIterator[None]:
        # A call is counted before its answer goes out: whoever has that may look at the figures.
        try:
            yield
        except asyncio.CancelledError:
            self._calls.labels(method, StatusCode.CANCELLED.name).inc()
            raise
        except Exception as error:  # noqa: BLE001  the outermost edge of a call
            await context.abort_with_status(self._counted(method, error))
        else:
            self._calls.labels(method, StatusCode.OK.name).inc()

    def _counted(self, method: str, error: Exception) -> grpc.Status:
        status = to_status(error)
        self._calls.labels(method, _NAMES[status.code]).inc()
        if not isinstance(error, ANSWERED):
            # Without this, gRPC would send the message to the client, whatever stands in it.
            _LOG.error("call failed", extra={"method": method}, exc_info=error)
        answer: grpc.Status = rpc_status.to_status(status)
        return answer


async def _write(context: Context, response: Any) -> None:  # noqa: ANN401  any call's message
    try:
        await context.write(response)
    except aio.BaseError:
        # Its client has gone, or the server has stopped: gRPC would write a traceback to the log for each.
        raise asyncio.CancelledError from None


def _refusing(status: grpc.Status) -> Handler:
    async def refuse(_: object, context: Context) -> None:
        # Not aborted: that raises, and the error, its frames and the call would hold each other in memory.
        context.set_code(status.code)
        context.set_details(status.details)
        context.set_trailing_metadata(status.trailing_metadata)

    # As a stream of answers, which may have none.
    return grpc.stream_stream_rpc_method_handler(refuse, None, None)
