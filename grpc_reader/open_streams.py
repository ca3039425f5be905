from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio
from grpc_status import rpc_status

from grpc_reader.errors import TooManyCallsError, to_status
from grpc_reader.gate import Gate

# grpc's own classes are generic for the type checker only.
Handler = Any
Context = aio.ServicerContext[Any, Any]


def in_room(room: Gate, handler: Handler) -> Handler:
    """A handler of gRPC's own whose streams need room. A single answer does not: health is always told."""
    if not handler.response_streaming:
        return handler
    stream = handler.stream_stream or handler.unary_stream

    async def roomy(request: Any, context: Context) -> None:  # noqa: ANN401  a message, or several
        try:
            with room.passage():
                answers = stream(request, context)
                # Some of gRPC's own services write by themselves.
                if not isinstance(answers, AsyncIterator):
                    await answers
                    return
                async for answer in answers:
                    await context.write(answer)
        except TooManyCallsError as error:
            await context.abort_with_status(rpc_status.to_status(to_status(error)))

    make = (
        grpc.stream_stream_rpc_method_handler
        if handler.request_streaming
        else grpc.unary_stream_rpc_method_handler
    )
    return make(roomy, handler.request_deserializer, handler.response_serializer)
