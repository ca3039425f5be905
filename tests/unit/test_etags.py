from datetime import UTC, date, datetime

import pytest

from api.books.etags import Versions, etag_of, matching_versions
from common.books import Book
from common.errors import InvalidInputError

NOW = datetime(2026, 1, 31, tzinfo=UTC)
BOOK = Book(
    id=1, title="t", author="a", publication_date=date(2000, 1, 1), version=3, created_at=NOW, updated_at=NOW
)


def test_tag_is_the_quoted_version() -> None:
    assert etag_of(BOOK) == '"3"'


@pytest.mark.parametrize(
    ("header", "versions"),
    [
        (None, None),
        ("*", None),
        ('"3"', {3}),
        ('"2", "3"', {2, 3}),
        ('W/"3"', set()),
        ('"abc"', set()),
        ('"3",W/"4"', {3}),
        ('""', set()),
        (",,", set()),
        (',"3",, "4" ,', {3, 4}),
        ('"03"', set()),
        ('"' + "9" * 5000 + '"', set()),
    ],
)
def test_if_match_allows_the_strong_tags_it_lists(header: str | None, versions: set[int] | None) -> None:
    assert matching_versions(header) == versions


@pytest.mark.parametrize("header", ["3", '"3', '"3" "4"', "**", 'w/"3"', "*,", '"3";', '\xa0"3"', "*\xa0"])
def test_if_match_that_is_no_list_of_tags_is_refused(header: str) -> None:
    with pytest.raises(InvalidInputError) as raised:
        matching_versions(header)
    assert raised.value.violations[0].pointer == "/header/if-match"


@pytest.mark.parametrize(
    ("header", "matches"),
    [(None, False), ("*", True), ('"3"', True), ('W/"3"', True), ('"1", "3"', True), ('"4"', False)],
)
def test_if_none_match_compares_weakly(header: str | None, matches: bool) -> None:  # noqa: FBT001  a case
    assert Versions.of(None, header).is_news(BOOK.version) is not matches


@pytest.mark.parametrize(
    ("if_match", "if_none_match", "allowed"),
    [
        (None, None, True),
        ("*", '"4"', True),
        ('"3"', '"4"', True),
        ('"3"', '"3"', False),
        ('"3"', "*", False),
        ('"4"', None, False),
        (None, "*", False),
    ],
)
def test_both_conditions_must_hold(
    if_match: str | None,
    if_none_match: str | None,
    allowed: bool,  # noqa: FBT001  a case
) -> None:
    assert (BOOK.version in Versions.of(if_match, if_none_match)) is allowed
