from datetime import date
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from api.books.cursors import CURSOR_MAX_LENGTH, Cursors
from api.books.queries import Filters, Position, Sort
from common.errors import InvalidInputError, StartError

CURSORS = Cursors(b"s" * 32)
PLACE = Position(None, 1)
TITLED = Position("Dune", 7)


@pytest.mark.parametrize(
    ("sort", "place"),
    [
        ("id", Position(None, 2**63 - 1)),
        ("-title", Position("Ёлка\u2028🎈", 1)),
        ("author", Position("م" * 255, 1)),
        ("publication_date", Position("0001-01-01", 3)),
    ],
)
def test_cursor_leads_back_to_its_place(sort: Sort, place: Position) -> None:
    filters = Filters(author="Ö", published_from=date(2000, 1, 1))
    assert CURSORS.position_in(CURSORS.at(place, filters, sort), filters, sort) == place


@pytest.mark.parametrize("character", ["🎈", "\x01", '"'])
def test_longest_cursor_is_short_enough_to_be_taken(character: str) -> None:
    longest = Position(character * 300, 2**63 - 1)
    assert len(CURSORS.at(longest, Filters(), "title")) <= CURSOR_MAX_LENGTH


@pytest.mark.parametrize("other", [Filters(), Filters(author="o"), Filters(title="Ö")])
def test_cursor_of_another_query_is_refused(other: Filters) -> None:
    with pytest.raises(InvalidInputError, match="cursor"):
        CURSORS.position_in(CURSORS.at(PLACE, Filters(author="Ö"), "id"), other, "id")


@pytest.mark.parametrize("sort", ["-id", "title"])
def test_cursor_of_another_order_is_refused(sort: Sort) -> None:
    with pytest.raises(InvalidInputError):
        CURSORS.position_in(CURSORS.at(PLACE, Filters(), "id"), Filters(), sort)


def test_cursor_that_somebody_else_has_sealed_is_refused() -> None:
    foreign = Cursors(b"f" * 32).at(PLACE, Filters(), "id")
    with pytest.raises(InvalidInputError):
        CURSORS.position_in(foreign, Filters(), "id")


@pytest.mark.parametrize("index", range(0, 35, 4))
def test_cursor_with_another_character_anywhere_is_refused(index: int) -> None:
    cursor = CURSORS.at(TITLED, Filters(), "title")
    changed = cursor[:index] + ("A" if cursor[index] != "A" else "B") + cursor[index + 1 :]
    with pytest.raises(InvalidInputError):
        CURSORS.position_in(changed, Filters(), "title")


@pytest.mark.parametrize("cursor", ["", "!", "AAAA", "bnVsbA", "W10", "ü", "W" * 200, "WyJhIiwgMV0"])
def test_broken_cursor_is_refused(cursor: str) -> None:
    with pytest.raises(InvalidInputError):
        CURSORS.position_in(cursor, Filters(), "id")


def test_each_refusal_is_an_error_of_its_own() -> None:
    """A shared one would keep the frames of every call that it was raised in."""
    refusals = []
    for _ in range(2):
        with pytest.raises(InvalidInputError) as raised:
            CURSORS.position_in("AAAA", Filters(), "id")
        refusals.append(raised.value)
    assert refusals[0] is not refusals[1]


def test_the_secret_is_made_once_however_many_start_at_once_and_is_its_owners_alone(tmp_path: Path) -> None:
    with ThreadPool(8) as pool:
        made = set(pool.map(Cursors.open, [tmp_path] * 16))
    assert made == {Cursors.open(tmp_path)}
    [file] = tmp_path.iterdir()
    assert file.stat().st_mode & 0o777 == 0o600


def test_a_secret_of_another_length_is_refused_with_what_to_do(tmp_path: Path) -> None:
    (tmp_path / "cursors.secret").write_bytes(b"short")
    with pytest.raises(StartError, match="remove it"):
        Cursors.open(tmp_path)


def test_a_folder_that_cannot_be_used_is_refused(tmp_path: Path) -> None:
    with pytest.raises(StartError, match="cannot be used"):
        Cursors.open(tmp_path / "missing")


@pytest.mark.parametrize("sort", ["id", "-id"])
def test_cursor_is_taken_as_it_was_written_and_in_no_other_spelling(sort: Sort) -> None:
    cursor = CURSORS.at(Position(None, 12), Filters(), sort)
    assert len(cursor) % 4 == 2, "the last character has bits that are decoded to nothing"
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_"
    others = [cursor[:-1] + it for it in alphabet if it != cursor[-1]]
    for other in [*others, cursor + "=", cursor + "==", cursor.replace("-", "+").replace("_", "/") + "\n"]:
        with pytest.raises(InvalidInputError):
            CURSORS.position_in(other, Filters(), sort)
