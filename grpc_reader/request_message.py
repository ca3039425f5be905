"""What a caller sends is read by the call itself, for a place is only held by who is known.

gRPC would read the message of a call with one request before it asks us, for as long as that takes, and would
answer INTERNAL to what it cannot parse.
"""

import asyncio
from collections.abc import AsyncIterator, Callable
from typing import Any

from google.protobuf.message import DecodeError
from grpc import aio

from common.errors import InvalidInputError, Violation
from grpc_reader.errors import DeadlineExceededError

_SECONDS = 10.0

Context = aio.ServicerContext[Any, Any]
Parse = Callable[[bytes], Any]


async def one_message(context: Context, parse: Parse) -> Any:  # noqa: ANN401  any call's message
    """The first message of a call, whose handler must take a stream of bytes; others are never read.

    Raises InvalidInputError if there is none or it cannot be parsed, DeadlineExceededError if it is late.
    """
    try:
        async with asyncio.timeout(_SECONDS):
            raw = await context.read()
    except TimeoutError:
        raise DeadlineExceededError(f"The call's message has not come within {_SECONDS:g} seconds.") from None
    if raw is aio.EOF:
        raise InvalidInputError(Violation("/", "must be sent: the call has ended without a message"))
    return _parsed(raw, parse)


async def messages(raw: AsyncIterator[bytes], parse: Parse) -> AsyncIterator[Any]:
    """All messages of a stream; InvalidInputError for one that cannot be parsed."""
    async for each in raw:
        yield _parsed(each, parse)


def _parsed(raw: bytes, parse: Parse) -> Any:  # noqa: ANN401  any call's message
    try:
        return parse(raw)
    except DecodeError:
        raise InvalidInputError(Violation("/", "must be a message of the call's type in protobuf")) from None
