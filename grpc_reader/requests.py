"""The rules that requests of several calls share."""

from common.errors import InvalidInputError, Violation

_DEFAULT_PAGE_SIZE = 50
_MAX_PAGE_SIZE = 200


def page_limit(page_size: int) -> int:
    """How many items a page may hold (AIP-158): 0 means 50, more than 200 means 200."""
    require_not_negative("page_size", page_size)
    return min(page_size, _MAX_PAGE_SIZE) or _DEFAULT_PAGE_SIZE


def require_not_negative(field: str, value: int) -> None:
    """InvalidInputError for a value below 0."""
    if value < 0:
        raise InvalidInputError(Violation(f"/{field}", f"must not be negative, but is {value}"))


def require_text(field: str, text: str, length: int) -> None:
    """InvalidInputError for a text longer than `length` characters, or with NUL in it, which no book has.

    To the database's collation NUL is nothing at all.
    """
    if "\x00" in text:
        raise InvalidInputError(Violation(f"/{field}", "must not contain the NUL character"))
    if len(text) > length:
        raise InvalidInputError(Violation(f"/{field}", f"must not be longer than {length} characters"))
