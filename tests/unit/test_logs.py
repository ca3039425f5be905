import json
import logging

import pytest

from common.logs import LineFormatter


def line(message: str = "book stored", **fields: object) -> str:
    record = logging.makeLogRecord(
        {"name": "api", "levelname": "INFO", "msg": message, "created": 0.5, **fields}
    )
    return LineFormatter().format(record)


def test_a_line_is_time_level_logger_message_and_fields() -> None:
    assert line(book_id=7, title="Dune") == (
        "1970-01-01T00:00:00.500Z INFO    api: book stored book_id=7 title=Dune"
    )


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("", '""'),
        ("two words", '"two words"'),
        ("a=b", '"a=b"'),
        ('"', r'"\""'),
        ("Дюна", "Дюна"),
        ("Дюна 2", '"Дюна 2"'),
        ("a\nb", r'"a\nb"'),
        ("a\u2028b", r'"a\u2028b"'),
        ("a\x85b", r'"a\u0085b"'),
        ("\x1b[2J\x9b2J", r'"\u001b[2J\u009b2J"'),
        (None, "None"),
    ],
)
def test_a_value_that_would_be_misread_is_quoted(value: object, shown: str) -> None:
    assert line(value=value).endswith(f" value={shown}")


def test_a_traceback_stays_on_the_line() -> None:
    error = ValueError("first\nsecond")
    found = line(exc_info=(ValueError, error, None))
    assert len(found.splitlines()) == 1
    assert "ValueError: first\nsecond" in json.loads(found.partition(" traceback=")[2])
