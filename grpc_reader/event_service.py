from collections.abc import AsyncIterator
from typing import Any

import grpc
from grpc import aio
from sqlalchemy import select

from common.database import Database
from grpc_reader import page_tokens
from grpc_reader.follower import Follower
from grpc_reader.messages import EVENT_COLUMNS, event_message
from grpc_reader.requests import page_limit, require_not_negative
from grpc_reader.tables import DeliveredEventRow
from grpc_reader.time_left import reading
from protos.bookstore.v1 import events_pb2, events_pb2_grpc

_COLUMNS = DeliveredEventRow.__table__.c  # type: ignore[attr-defined]

Context = aio.ServicerContext[Any, Any]


class EventService(events_pb2_grpc.EventServiceServicer):
    """What was delivered and recorded, as events.proto describes it."""

    def __init__(self, database: Database, follower: Follower) -> None:
        self._database = database
        self._follower = follower

    async def ListDeliveredEvents(  # noqa: N802  the name in the .proto file
        self, request: events_pb2.ListDeliveredEventsRequest, context: Context
    ) -> events_pb2.ListDeliveredEventsResponse:
        """A page, newest first, by keyset on the position."""
        limit = page_limit(request.page_size)
        require_not_negative("book_id", request.book_id)
        query = ("ListDeliveredEvents", request.book_id)
        before = page_tokens.decode(query, request.page_token)
        statement = select(*EVENT_COLUMNS).order_by(_COLUMNS.position.desc()).limit(limit + 1)
        if before is not None:
            statement = statement.where(_COLUMNS.position < before)
        if request.book_id:
            statement = statement.where(_COLUMNS.book_id == request.book_id)
        async with reading(self._database, context) as connection:
            rows = (await connection.execute(statement)).all()
        page = rows[:limit]
        return events_pb2.ListDeliveredEventsResponse(
            events=[event_message(row) for row in page],  # type: ignore[arg-type]  # its columns, as attributes
            next_page_token=page_tokens.encode(query, page[-1].position) if len(rows) > limit else "",
        )

    async def WatchDeliveredEvents(  # noqa: N802  the name in the .proto file
        self, request: events_pb2.WatchDeliveredEventsRequest, _: Context
    ) -> AsyncIterator[bytes]:
        """Everything after the position, then live, until the client leaves or the server stops."""
        require_not_negative("after_position", request.after_position)
        require_not_negative("book_id", request.book_id)
        async for event in self._follower.after(request.after_position, request.book_id):
            yield event.message


def add_event_service(service: EventService, server: aio.Server) -> None:
    """What the generated function does, but the stream's messages come in bytes already."""
    handlers: dict[str, grpc.RpcMethodHandler[Any, Any]] = {
        "ListDeliveredEvents": grpc.unary_unary_rpc_method_handler(
            service.ListDeliveredEvents,
            request_deserializer=events_pb2.ListDeliveredEventsRequest.FromString,
            response_serializer=events_pb2.ListDeliveredEventsResponse.SerializeToString,
        ),
        "WatchDeliveredEvents": grpc.unary_stream_rpc_method_handler(
            service.WatchDeliveredEvents,
            request_deserializer=events_pb2.WatchDeliveredEventsRequest.FromString,
        ),
    }
    name = events_pb2.DESCRIPTOR.services_by_name["EventService"].full_name
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(name, handlers),))
