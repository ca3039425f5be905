import time

import pytest
from fastapi import HTTPException

from api.accept import best_of

OFFERED = ["text/csv", "application/x-ndjson"]


@pytest.mark.parametrize(
    ("accept", "chosen"),
    [
        (None, "text/csv"),
        ("*/*", "text/csv"),
        ("application/*", "application/x-ndjson"),
        ("Application/X-NDJSON", "application/x-ndjson"),
        ("text/csv;q=0.1, application/x-ndjson;q=0.2", "application/x-ndjson"),
        ("text/csv; charset=utf-8 ; q=0.5, */*;q=0.4", "text/csv"),
        # The more specific range decides, whichever is higher.
        ("*/*, text/csv;q=0", "application/x-ndjson"),
        ("text/*;q=0.1, text/csv;q=0.9, application/x-ndjson;q=0.5", "text/csv"),
        ("application/json, ,text/csv", "text/csv"),
        # A quality that is no number counts as none.
        ("text/csv;q=much", "text/csv"),
    ],
)
def test_the_form_that_the_client_likes_best_is_chosen(accept: str | None, chosen: str) -> None:
    assert best_of(OFFERED, accept) == chosen


@pytest.mark.parametrize("accept", ["application/json", "text/csv;q=0", "*/*;q=0", "csv", ","])
def test_a_client_that_takes_none_is_told_what_there_is(accept: str) -> None:
    with pytest.raises(HTTPException, match="406: Accept one of text/csv, application/x-ndjson"):
        best_of(OFFERED, accept)


def test_a_header_of_a_thousand_parameters_costs_no_time() -> None:
    """Each of these took a quarter of a second to read."""
    began = time.process_time()
    for _ in range(10):
        with pytest.raises(HTTPException, match="in 1024 characters at most"):
            best_of(OFFERED, 'text/csv;"' + ";" * 13_000)
    assert time.process_time() - began < 0.1


def test_a_header_as_long_as_it_may_be_is_read() -> None:
    accept = "application/x-ndjson, " + "x/y, " * 300
    assert best_of(OFFERED, accept[:1024]) == "application/x-ndjson"
    with pytest.raises(HTTPException):
        best_of(OFFERED, accept[:1025])
