"""The API announces a change itself, from inside the transaction, "just to be fast"."""

import json
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection

from api import outbox
from api.settings import ApiSettings
from common.books import Book
from common.broker import broker_connection
from common.events import CONTENT_TYPE, EXCHANGE, EventType, routing_key
from common.tables import OutboxRow


def install() -> None:
    record = outbox.record
    settings = ApiSettings.from_environment()

    async def record_and_publish(
        transaction: AsyncConnection, event_type: EventType, *books: Book, at: datetime, traceparent: str
    ) -> None:
        await record(transaction, event_type, *books, at=at, traceparent=traceparent)
        columns = OutboxRow.__table__.c  # type: ignore[attr-defined]  # SQLModel does not declare it
        mine = columns.book_id.in_([book.id for book in books])
        bodies = (await transaction.execute(select(columns.body).where(mine))).scalars().all()
        with broker_connection(settings, "hasty api") as connection:
            for body in bodies:
                connection.Producer(connection.default_channel).publish(
                    body,
                    exchange=EXCHANGE,
                    routing_key=routing_key(event_type),
                    content_type=CONTENT_TYPE,
                    content_encoding="utf-8",
                    message_id=json.loads(body)["id"],
                    delivery_mode="persistent",
                )

    outbox.record = record_and_publish
