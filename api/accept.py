"""Which of the forms that an answer can take the client likes best (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

import mimeparse  # type: ignore[import-untyped]  # it has no types
from fastapi import HTTPException

# Browsers send some 150 characters. Parameters are read in a time that grows with the square of their number.
_MAX_LENGTH = 1024


def best_of(offered: Sequence[str], accept: str | None) -> str:
    """The media type among `offered` that the header ranks highest; of equals the one that is offered first.

    Without the header any will do. HTTPException 406 when it takes none of them, cannot be read, or is too
    long, with a sentence that names them.
    """
    if len(accept or "") > _MAX_LENGTH:
        raise HTTPException(406, f"Accept one of {', '.join(offered)}, in {_MAX_LENGTH} characters at most.")
    try:
        # Of equals the library takes the last.
        best: str = mimeparse.best_match(list(reversed(offered)), (accept or "*/*").lower())
    except mimeparse.MimeTypeParseException:
        best = ""
    if not best:
        raise HTTPException(406, f"Accept one of {', '.join(offered)}.")
    return best
