import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from common.errors import InvalidInputError
from grpc_reader import page_tokens

queries = st.tuples(
    st.sampled_from(["ListBooks", "ListDeliveredEvents"]), st.text(max_size=20), st.integers()
)
positions = st.integers(min_value=1, max_value=2**63 - 1)


@given(queries, positions)
def test_a_token_brings_its_position_back(query: tuple[object, ...], position: int) -> None:
    assert page_tokens.decode(query, page_tokens.encode(query, position)) == position


@given(queries, queries, positions)
def test_a_token_of_another_query_is_refused(
    query: tuple[object, ...], other: tuple[object, ...], position: int
) -> None:
    token = page_tokens.encode(query, position)
    if query != other:
        with pytest.raises(InvalidInputError, match="page_token"):
            page_tokens.decode(other, token)


@given(queries, st.text(min_size=1))
@example(("ListBooks", "", 0), "=")
@example(("ListBooks", "", 0), "A" * 22)
@example(("ListBooks", "", 0), "A" * 10_000)
@example(("ListBooks", "", 0), "ü")
def test_a_text_that_is_no_token_is_refused(query: tuple[object, ...], text: str) -> None:
    with pytest.raises(InvalidInputError, match="page_token"):
        page_tokens.decode(query, text)


@given(queries, positions, st.integers(0, 21), st.characters(codec="ascii"))
def test_a_token_with_one_letter_changed_is_refused(
    query: tuple[object, ...], position: int, place: int, letter: str
) -> None:
    token = page_tokens.encode(query, position)
    changed = token[:place] + letter + token[place + 1 :]
    if changed != token:
        with pytest.raises(InvalidInputError, match="page_token"):
            page_tokens.decode(query, changed)


def test_no_token_is_the_first_page() -> None:
    assert page_tokens.decode(("ListBooks",), "") is None
