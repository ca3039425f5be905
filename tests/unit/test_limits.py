import time

import pytest
from prometheus_client import CollectorRegistry
from starlette.types import Message, Receive, Scope, Send

from api.connections import Doorkeeper
from api.limits import Limits
from api.metrics import Refusals

pytestmark = pytest.mark.anyio
BODY_MAX_BYTES = 100
WHOLE = {"type": "http.request", "body": b"{}"}


class Served:
    """A request behind Limits: what the application received of it, and the status of the answer."""

    def __init__(self, content_type: str, *messages: Message) -> None:
        self.received: list[Message] = []
        self.status = 204
        self._scope: Scope = {
            "type": "http",
            "method": "POST",
            "path": "/v1/books",
            "headers": [(b"content-type", content_type.encode()), (b"transfer-encoding", b"chunked")],
        }
        self._messages = list(messages)

    async def run(self) -> "Served":
        limits = Limits(self._application, body_max_bytes=BODY_MAX_BYTES, streamed=frozenset())
        await limits(self._scope, self._receive, self._send)
        return self

    async def _application(self, _scope: Scope, receive: Receive, _send: Send) -> None:
        self.received.append(await receive())
        while self.received[-1].get("more_body", False):
            self.received.append(await receive())

    async def _receive(self) -> Message:
        return self._messages.pop(0)

    async def _send(self, message: Message) -> None:
        self.status = message.get("status", self.status)


@pytest.mark.parametrize("parameters", [";" * 15_900, ";x=y" * 4000])
async def test_a_media_type_of_thousands_of_parameters_costs_no_time(parameters: str) -> None:
    """Each of the first took a quarter of a second to read, before anybody had to log in."""
    began = time.process_time()
    for _ in range(10):
        served = await Served(f'application/json;"{parameters}', WHOLE).run()
        assert served.status == 415
    assert time.process_time() - began < 0.1


async def test_a_body_that_comes_a_byte_at_a_time_is_kept_as_one() -> None:
    pieces: list[Message] = [
        {"type": "http.request", "body": b"%d" % (place % 10), "more_body": True}
        for place in range(BODY_MAX_BYTES)
    ]
    served = await Served("application/json", *pieces, {"type": "http.request"}).run()
    assert served.received == [{"type": "http.request", "body": b"0123456789" * 10, "more_body": False}]


async def test_a_body_is_refused_at_the_first_byte_that_is_too_many() -> None:
    piece = {"type": "http.request", "body": b"x" * (BODY_MAX_BYTES // 2), "more_body": True}
    last = {"type": "http.request", "body": b"x", "more_body": True}
    served = await Served("application/json", piece, piece, last).run()
    assert (served.status, served.received) == (413, [])


async def test_half_a_body_is_not_taken_for_a_whole_one() -> None:
    half = {"type": "http.request", "body": b"{}", "more_body": True}
    served = await Served("application/json", half, {"type": "http.disconnect"}).run()
    assert served.received == [{"type": "http.disconnect"}]


class _Looked:
    def __init__(self, error: Exception | None = None) -> None:
        self.error = error
        self.said: list[str] = []

    def look_after(self, _: float) -> None:
        self.said.append("looked after")
        if self.error is not None:
            raise self.error

    def give_way(self) -> None:
        self.said.append("ended")


def test_a_connection_that_cannot_be_looked_after_is_ended_and_the_others_are_looked_after() -> None:
    doorkeeper = Doorkeeper(
        connections_max=10, head_max_bytes=100, refusals=Refusals(CollectorRegistry()), origins=[]
    )
    connections = [_Looked(), _Looked(ValueError("unforeseen")), _Looked()]
    doorkeeper.look_after(connections, 1.0)
    assert [each.said for each in connections] == [
        ["looked after"],
        ["looked after", "ended"],
        ["looked after"],
    ]
