from urllib.parse import unquote_to_bytes

from fastapi import Request

from api.problems import pointer_to
from common.errors import InvalidInputError, Violation


async def require_plain_query(request: Request) -> None:
    """InvalidInputError for what is not UTF-8, and for a name that is there more than once.

    Frameworks read on where the bytes are broken, with replacement characters, and take the last of several
    values: the client would get the answer to a question that it did not ask.
    """
    names: set[str] = set()
    faults: dict[str, str] = {}
    for field in request.scope["query_string"].split(b"&"):
        if not field:
            continue
        raw_name, _, raw_value = field.partition(b"=")
        try:
            name = _decoded(raw_name)
        except UnicodeDecodeError:
            faults.setdefault(pointer_to("query"), "has a name that is not UTF-8")
            continue
        pointer = pointer_to("query", name)
        if name in names:
            faults.setdefault(pointer, "is there more than once")
        names.add(name)
        try:
            _decoded(raw_value)
        except UnicodeDecodeError:
            faults.setdefault(pointer, "is not UTF-8")
    if faults:
        raise InvalidInputError(*(Violation(pointer, detail) for pointer, detail in faults.items()))


def _decoded(raw: bytes) -> str:
    """The text of a percent-encoded part; what was left unencoded must be ASCII (RFC 3986, section 2)."""
    raw.decode("ascii")
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
