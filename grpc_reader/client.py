"""A ready-made client for each call: logs in, calls, and gives plain messages back."""

import json
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Iterator
from http.client import HTTPException
from pathlib import Path
from typing import Self

import grpc

from common.errors import StartError
from common.terminal import printable
from common.tls import PLAINTEXT, ClientTls
from grpc_reader.settings import ClientSettings
from grpc_reader.tls import channel_credentials
from protos.bookstore.v1 import books_pb2, books_pb2_grpc, events_pb2, events_pb2_grpc

_LOGIN_SECONDS = 10
_CALL_SECONDS = 10
# Calls with one answer only read, so they are made again while the service is away or cannot answer.
# A stream is not: only who has seen its last event knows where it goes on.
_SERVICE_CONFIG = Path(__file__).with_name("service_config.json")
# Between two events, which may be hours, a server that has vanished without a word is noticed by these.
_PING_MILLISECONDS = 30_000
_PONG_MILLISECONDS = 10_000


def log_in(settings: ClientSettings) -> str:
    """An access token: BOOKSTORE_TOKEN, or what the password grant gives; StartError when there is none."""
    if settings.bookstore_token:
        return settings.bookstore_token.get_secret_value()
    if not settings.demo_username or not settings.demo_password:
        raise StartError("Set DEMO_USERNAME and DEMO_PASSWORD (see .local/demo.env), or BOOKSTORE_TOKEN.")
    form = {
        "grant_type": "password",
        "username": settings.demo_username,
        "password": settings.demo_password.get_secret_value(),
        "scope": "books:read",
    }
    url = f"{str(settings.api_url).rstrip('/')}/v1/auth/token"
    # The settings accept http and https addresses only.
    request = urllib.request.Request(url, data=urllib.parse.urlencode(form).encode())  # noqa: S310
    try:
        with urllib.request.urlopen(  # noqa: S310
            request, timeout=_LOGIN_SECONDS, context=settings.api_client_tls.context()
        ) as answer:
            return str(json.load(answer)["access_token"])
    except urllib.error.HTTPError as error:
        raise StartError(f"The login at {url} was refused ({error.code}): check name and password.") from None
    except (OSError, HTTPException, ValueError, TypeError, KeyError) as error:
        # Some repeat what was said by whoever is there instead of the API.
        reason = printable(str(error))
        raise StartError(
            f"The login at {url} failed ({reason}): check API_URL and that the API runs."
        ) from None


class Client:
    """The calls, with a token. Each raises grpc.RpcError; those that give one answer try four times first."""

    def __init__(self, address: str, token: str, tls: ClientTls = PLAINTEXT) -> None:
        options = [
            ("grpc.service_config", _SERVICE_CONFIG.read_text("utf-8")),
            ("grpc.keepalive_time_ms", _PING_MILLISECONDS),
            ("grpc.keepalive_timeout_ms", _PONG_MILLISECONDS),
            ("grpc.http2.max_pings_without_data", 0),
        ]
        if tls.given:
            self._channel = grpc.secure_channel(address, channel_credentials(tls), options)
        else:
            self._channel = grpc.insecure_channel(address, options)
        self._metadata = (("authorization", f"Bearer {token}"),)
        self._books = books_pb2_grpc.BookServiceStub(self._channel)  # type: ignore[no-untyped-call]  # generated
        self._events = events_pb2_grpc.EventServiceStub(self._channel)  # type: ignore[no-untyped-call]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._channel.close()

    def get(self, book_id: int) -> books_pb2.Book:
        """One book."""
        request = books_pb2.GetBookRequest(id=book_id)
        answer: books_pb2.GetBookResponse = self._books.GetBook(
            request, timeout=_CALL_SECONDS, metadata=self._metadata
        )
        return answer.book

    def pages(self, author: str, title: str, page_size: int) -> Iterator[list[books_pb2.Book]]:
        """Page by page, to the end."""
        request = books_pb2.ListBooksRequest(page_size=page_size, author=author, title=title)
        while True:
            page = self._books.ListBooks(request, timeout=_CALL_SECONDS, metadata=self._metadata)
            yield list(page.books)
            request.page_token = page.next_page_token
            if not request.page_token:
                return

    def events(self, book_id: int, limit: int) -> list[events_pb2.DeliveredEvent]:
        """The newest events, newest first, at most `limit`."""
        request = events_pb2.ListDeliveredEventsRequest(book_id=book_id)
        found: list[events_pb2.DeliveredEvent] = []
        while len(found) < limit:
            request.page_size = min(limit - len(found), 200)
            page = self._events.ListDeliveredEvents(request, timeout=_CALL_SECONDS, metadata=self._metadata)
            found += page.events
            request.page_token = page.next_page_token
            if not request.page_token:
                break
        return found

    def watch(self, after_position: int, book_id: int) -> Iterator[events_pb2.DeliveredEvent]:
        """Every event after the position, then live, until interrupted."""
        request = events_pb2.WatchDeliveredEventsRequest(after_position=after_position, book_id=book_id)
        for answer in self._events.WatchDeliveredEvents(request, metadata=self._metadata):
            yield answer.event
