"""The parser of HTTP/1.1, which stays with it."""

from typing import Protocol

from httptools import HttpParserUpgrade, HttpRequestParser


class Reader(Protocol):
    """Whoever hears what is parsed."""

    parser: HttpRequestParser

    def head_without_upgrade(self) -> bytes:
        """The head that was read last, in which nothing asks for another protocol."""


class Http1Parser(HttpRequestParser):
    """Stays with HTTP/1.1 when a head asks for another protocol, which RFC 9110, section 7.8 allows.

    httptools takes what follows such a head for the other protocol, and uvicorn then takes it for the next
    request: who may choose a body could have it done.
    """

    def __init__(self, reader: Reader) -> None:
        super().__init__(reader)
        self._reader = reader
        # As uvicorn has it; what comes behind a close is never done.
        self.set_dangerous_leniencies(lenient_data_after_close=True)

    def feed_data(self, data: bytes) -> None:  # type: ignore[override]
        """Read on, and such a head once more as if it had not asked."""
        try:
            super().feed_data(data)
        except HttpParserUpgrade as stop:
            head = self._reader.head_without_upgrade()
            again = self._reader.parser = Http1Parser(self._reader)
            again.feed_data(head)
            again.feed_data(data[stop.args[0] :])
