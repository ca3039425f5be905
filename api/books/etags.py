"""Entity tags of books (RFC 9110, section 8.8.3): the version, quoted. All are strong."""

import re
from collections.abc import Container
from dataclasses import dataclass

from common.books import Book
from common.errors import InvalidInputError, Violation

# An element of a list may be empty (RFC 9110, section 5.6.1.2).
_ELEMENT = re.compile(r'[ \t]*(?:(W/)?"([\x21\x23-\x7e]*)"[ \t]*)?(?:,|$)')
_BLANKS = " \t"
# As `etag_of` writes it, for tags are compared character by character (8.8.3.2).
_VERSION = re.compile("[1-9][0-9]{0,9}")


def etag_of(book: Book) -> str:
    """`"3"` for a book at version 3."""
    return f'"{book.version}"'


def _parsed(value: str, pointer: str) -> list[tuple[bool, str]]:
    """(is weak, opaque tag) for each tag of a list."""
    tags, position = [], 0
    while position < len(value):
        found = _ELEMENT.match(value, position)
        if found is None:
            raise InvalidInputError(Violation(pointer, 'must be * or a list of entity tags such as "3"'))
        if found[2] is not None:
            tags.append((found[1] is not None, found[2]))
        position = found.end()
    return tags


def matching_versions(if_match: str | None) -> frozenset[int] | None:
    """The versions that `If-Match` allows; None when it allows any. Weak tags never match (13.1.1)."""
    if if_match is None or if_match.strip(_BLANKS) == "*":
        return None
    tags = _parsed(if_match, "/header/if-match")
    return frozenset(int(tag) for weak, tag in tags if not weak and _VERSION.fullmatch(tag))


def excluded_versions(if_none_match: str | None) -> frozenset[int] | None:
    """The versions that `If-None-Match` rules out (weak comparison, 13.1.2); None when it is all."""
    if if_none_match is None:
        return frozenset()
    if if_none_match.strip(_BLANKS) == "*":
        return None
    tags = _parsed(if_none_match, "/header/if-none-match")
    return frozenset(int(tag) for _, tag in tags if _VERSION.fullmatch(tag))


@dataclass(frozen=True)
class Versions(Container[int]):
    """Those a request is meant for: all that are `matching` (None: any) and not `excluded` (None: any)."""

    matching: frozenset[int] | None
    excluded: frozenset[int] | None

    @classmethod
    def of(cls, if_match: str | None, if_none_match: str | None) -> "Versions":
        """InvalidInputError when one of the headers cannot be read."""
        return cls(matching_versions(if_match), excluded_versions(if_none_match))

    def __contains__(self, version: object) -> bool:
        return self.is_matching(version) and self.is_news(version)

    def is_matching(self, version: object) -> bool:
        """Whether `If-Match` allows it."""
        return self.matching is None or version in self.matching

    def is_news(self, version: object) -> bool:
        """Whether `If-None-Match` allows it: the client has another one."""
        return self.excluded is not None and version not in self.excluded
