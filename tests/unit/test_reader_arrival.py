import json

import pytest

from grpc_reader.arrival import NotUnderstoodError, understand
from tests.fixtures.reader import make_event


def test_a_body_is_kept_to_the_letter() -> None:
    body = make_event(7, 1, title="Ё 🐉 ß")
    arrival = understand(body.encode())
    assert (arrival.book_id, arrival.version, arrival.body) == (7, 1, body)


def test_fields_of_a_later_minor_version_are_ignored() -> None:
    assert understand(make_event(7, 1, newcomer={"a": 1})).book_id == 7


BOOK = json.loads(make_event(7, 1))["data"]


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        (b"\xff\xfe", "not UTF-8"),
        (b"", "JSON"),
        (b"[]", "object"),
        (b"{}", "id"),
        (b"{" * 100_000, "JSON"),
        (b" " * 300_000, "longer"),
        (make_event(7, 1, specversion="2.0"), "specversion"),
        (make_event(7, 1, source="/elsewhere"), "source"),
        (make_event(7, 1, type="bookstore.book.burnt.v1"), "type"),
        (make_event(7, 1, id="not a uuid"), "id"),
        (make_event(7, 1, subject="8"), "belong together"),
        (make_event(7, 1, bookversion=2), "belong together"),
        (make_event(0, 1), "out of range"),
        (make_event(2**63, 1), "out of range"),
        (make_event(7, 0), "out of range"),
        (make_event(7, 2**31), "out of range"),
        (make_event(7, 1, time="2026-01-01T00:00:00"), "zone"),
        (make_event(7, 1, time="0001-01-01T00:00:00+14:00"), "out of range"),
        (make_event(7, 1, time="9999-12-31T23:59:59-14:00"), "out of range"),
        (make_event(7, 1, data=BOOK | {"updated_at": "2026-01-01T00:00:00"}), "zone"),
        (make_event(7, 1, data=BOOK | {"publication_date": "1965-02-30"}), "publication_date"),
    ],
)
def test_what_cannot_be_stored_is_not_understood(body: str | bytes, reason: str) -> None:
    with pytest.raises(NotUnderstoodError, match=reason):
        understand(body)


def test_the_reason_repeats_no_value() -> None:
    with pytest.raises(NotUnderstoodError) as caught:
        understand(make_event(7, 1, id="a secret"))
    assert "secret" not in str(caught.value)
