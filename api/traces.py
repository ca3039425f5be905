"""W3C Trace Context, level 1: https://www.w3.org/TR/trace-context-1/."""

import re
import secrets

from fastapi import Request

_TRACEPARENT = re.compile(r"00-(?!0{32})([0-9a-f]{32})-(?!0{16})[0-9a-f]{16}-([0-9a-f]{2})")


def traceparent_of(request: Request) -> str:
    """The `traceparent` of what this request causes: the caller's trace, or a new one, and a new span.

    A header that breaks the rules is treated as absent (section 4.3); a trace that begins here is sampled.
    """
    span = _random_id(8)
    found = _TRACEPARENT.fullmatch(request.headers.get("traceparent", ""))
    if found is None:
        return f"00-{_random_id(16)}-{span}-01"
    return f"00-{found[1]}-{span}-{found[2]}"


def _random_id(size: int) -> str:
    """`size` random bytes in lowercase hex, not all zero, which both ids must not be."""
    return f"{secrets.randbelow(256**size - 1) + 1:0{2 * size}x}"
