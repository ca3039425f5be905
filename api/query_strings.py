from collections.abc import Callable
from functools import cache
from typing import Any
from urllib.parse import unquote_to_bytes

from fastapi import Request
from fastapi.dependencies.utils import get_dependant, get_flat_params
from fastapi.params import Cookie, Header, Path

from api.problems import pointer_to
from common.errors import InvalidInputError, Violation


def require_known_query(request: Request) -> None:
    """InvalidInputError for a name that the call does not know or that is there twice, and for no UTF-8.

    Frameworks read on where the bytes are broken, with replacement characters, take the last of several
    values, and leave out what they do not know: the client would get the answer to a question that it did not
    ask, or a change that it wanted only tried.
    """
    query: bytes = request.scope["query_string"]
    if not query:
        return
    route = request.scope["route"]
    known = _known(route.path, route.endpoint)
    names: set[str] = set()
    faults: dict[str, str] = {}
    for field in query.split(b"&"):
        if not field:
            continue
        raw_name, _, raw_value = field.partition(b"=")
        try:
            name = _decoded(raw_name)
        except UnicodeDecodeError:
            faults.setdefault(pointer_to("query"), "has a name that is not UTF-8")
            continue
        pointer = pointer_to("query", name)
        if name not in known:
            faults.setdefault(pointer, "is not a known field")
        elif name in names:
            faults.setdefault(pointer, "is there more than once")
        names.add(name)
        try:
            _decoded(raw_value)
        except UnicodeDecodeError:
            faults.setdefault(pointer, "is not UTF-8")
    if faults:
        raise InvalidInputError(*(Violation(pointer, detail) for pointer, detail in faults.items()))


@cache
def _known(path: str, endpoint: Callable[..., Any]) -> frozenset[str]:
    """The names of all that a call and what it depends on take from the query."""
    parameters = get_flat_params(get_dependant(path=path, call=endpoint))
    # The members of a model of the query say nothing of where they come from.
    return frozenset(it.alias for it in parameters if not isinstance(it.field_info, (Cookie, Header, Path)))


def _decoded(raw: bytes) -> str:
    """The text of a percent-encoded part; what was left unencoded must be ASCII (RFC 3986, section 2)."""
    raw.decode("ascii")
    return unquote_to_bytes(raw.replace(b"+", b" ")).decode("utf-8")
