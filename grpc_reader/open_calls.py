from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import grpc
from grpc import aio
from grpc_status import rpc_status

from common.errors import InvalidInputError
from grpc_reader.errors import DeadlineExceededError, TooManyCallsError, to_status
from grpc_reader.gate import Gate, Shares
from grpc_reader.request_message import messages, one_message

# Whoever watches health or asks what there is; anybody may, so that they must not be many.
_STREAMS = 100
# Of any kind, on one connection.
_CALLS_OF_A_CONNECTION = 20

# grpc's own classes are generic for the type checker only.
Handler = Any
Context = aio.ServicerContext[Any, Any]


class OpenCalls:
    """Guards handlers of gRPC's own that need no token: few calls on a connection, and few streams in all.

    Single answers of all connections together are not limited: health is told, whoever else asks.
    """

    def __init__(self) -> None:
        self._streams = Gate(_STREAMS, "streams that need no token")
        self._connections = Shares(_CALLS_OF_A_CONNECTION, "calls without a token on this connection")

    def guarded(self, handler: Handler) -> Handler:
        """The handler, with room for its calls, and with our answer to a request that is none."""
        if not handler.response_streaming:

            async def unary(_: object, context: Context) -> Any:  # noqa: ANN401  any call's message
                return await self._answered(context, lambda: self._unary(handler, context))

            return grpc.stream_unary_rpc_method_handler(unary, None, handler.response_serializer)

        async def stream(requests: AsyncIterator[bytes], context: Context) -> None:
            await self._answered(context, lambda: self._stream(handler, requests, context))

        return grpc.stream_stream_rpc_method_handler(stream, None, handler.response_serializer)

    async def _answered(self, context: Context, call: Callable[[], Awaitable[Any]]) -> Any:  # noqa: ANN401
        try:
            self._connections.take(context.peer(), context)
            return await call()
        except (DeadlineExceededError, InvalidInputError, TooManyCallsError) as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))
        except NotImplementedError:
            # gRPC itself would write a traceback to the log for each call of a stranger's.
            await context.abort(grpc.StatusCode.UNIMPLEMENTED, "This server does not have this call.")

    @staticmethod
    async def _unary(handler: Handler, context: Context) -> Any:  # noqa: ANN401  any call's message
        return await handler.unary_unary(await one_message(context, handler.request_deserializer), context)

    async def _stream(self, handler: Handler, requests: AsyncIterator[bytes], context: Context) -> None:
        parse = handler.request_deserializer
        request = None if handler.request_streaming else await one_message(context, parse)
        with self._streams.passage():
            if handler.request_streaming:
                answers = handler.stream_stream(messages(requests, parse), context)
            else:
                answers = handler.unary_stream(request, context)
            # Some of gRPC's own services write by themselves.
            if not isinstance(answers, AsyncIterator):
                await answers
                return
            async for answer in answers:
                await context.write(answer)
