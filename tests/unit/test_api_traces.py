import re

import pytest
from starlette.requests import Request

from api.traces import traceparent_of

TRACE, SPAN = "4bf92f3577b34da6a3ce929d0e0e4736", "00f067aa0ba902b7"


def traceparent(*values: str) -> str:
    headers = [(b"traceparent", value.encode()) for value in values]
    return traceparent_of(Request({"type": "http", "headers": headers}))


def test_a_valid_trace_goes_on_with_a_new_span_and_the_same_flags() -> None:
    version, trace, span, flags = traceparent(f"00-{TRACE}-{SPAN}-00").split("-")
    assert (version, trace, flags) == ("00", TRACE, "00")
    assert span != SPAN


@pytest.mark.parametrize(
    "value",
    [
        "",
        f"01-{TRACE}-{SPAN}-01",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"00-{TRACE}-{SPAN}-01-x",
        f"00-{TRACE}-{SPAN}-01\n",
    ],
)
def test_an_invalid_header_is_treated_as_absent(value: str) -> None:
    found = traceparent(value)
    assert TRACE not in found
    assert re.fullmatch("00-[0-9a-f]{32}-[0-9a-f]{16}-01", found)


def test_two_requests_without_a_trace_get_different_ones() -> None:
    assert traceparent() != traceparent()
