import json

import pytest

from common.terminal import printable


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("two\nlines\r\n", r"two\nlines\r\n"),
        ("a\tb", r"a\tb"),
        ("\x1b[2J\x07\x00\x7f", r"\u001b[2J\u0007\u0000\u007f"),
        ("\x9b2J\x85", r"\u009b2J\u0085"),
        ("a\u2028b\u2029c", r"a\u2028b\u2029c"),
        ("exe.\u202etxt\u202c \u2066x\u2069", r"exe.\u202etxt\u202c \u2066x\u2069"),
        ("\ud800", r"\ud800"),
    ],
)
def test_what_ends_the_line_moves_the_cursor_or_turns_the_rest_round_is_escaped(
    text: str, shown: str
) -> None:
    assert printable(text) == shown


@pytest.mark.parametrize(
    "text",
    [
        "",
        "Dune — Frank Herbert",
        r"C:\new",
        "Дюна 🎈 砂の惑星\u3000一",
        "👩\u200d🚀 🏴\U000e0067\U000e0062\U000e007f ❤\ufe0f",
        "e\u0301 ß fl\u00a0oz",
        "חולית \u200f\u200e",
        "می\u200cخ",
    ],
)
def test_text_of_every_script_is_left_as_it_is(text: str) -> None:
    assert printable(text) == text


def test_json_stays_the_same_value() -> None:
    value = {"title": "a\n\x9b\u202e\x7f\u2028b"}
    line = printable(json.dumps(value, ensure_ascii=False))
    assert line.isprintable()
    assert json.loads(line) == value
