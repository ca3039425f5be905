"""What the clients of the state machine send."""

from collections.abc import Callable

from hypothesis import strategies as st

# Equal but for case, accents or space around: for a collation the same, for a book a change or none.
ALIKE = st.sampled_from(["Dune", "dune", "Dûne", " Dune ", "Дюна 🎈", "x" * 300, "%", "O'Hara \\"])
TEXT = ALIKE | st.text(
    st.characters(blacklist_categories=["Cs"], blacklist_characters="\x00\r"), min_size=1, max_size=20
).filter(lambda text: bool(text.strip()))
DATES = st.sampled_from(["1965-08-01", "0001-01-01", "9999-12-31"]) | st.dates().map(str)
FIELDS = {"title": TEXT, "author": TEXT, "publication_date": DATES}
BOOKS = st.fixed_dictionaries(FIELDS)
PATCHES = st.fixed_dictionaries({}, optional=FIELDS)
BAD_DATES = st.sampled_from(["1965-02-30", "-750-01-01", "1965", ""])
ROWS = BOOKS | st.fixed_dictionaries({**FIELDS, "publication_date": BAD_DATES})
INVALID = st.sampled_from(
    [
        ({"title": " "}, "/title"),
        ({"title": "x" * 301}, "/title"),
        ({"title": None}, "/title"),
        ({"author": "x" * 1001}, "/author"),
        ({"author": "a\x00b"}, "/author"),
        ({"publication_date": "1965-02-30"}, "/publication_date"),
        ({"publication_date": None}, "/publication_date"),
        ({"version": 7}, "/version"),
    ]
)
MATCH = st.sampled_from(["none", "any", "right", "stale"])
# What a book's own values are sent back as: only space around them is no change.
TOUCHES: dict[str, Callable[[str], str]] = {
    "not at all": str,
    "space around": "  {}\t".format,
    "case": str.swapcase,
    "accents": lambda text: text.replace("e", "é").replace("u", "û"),
}
