"""Which of the forms that an answer can take the client likes best (RFC 9110, section 12.5.1)."""

from collections.abc import Sequence

from fastapi import HTTPException


def best_of(offered: Sequence[str], accept: str | None) -> str:
    """The media type among `offered` that the header ranks highest; of equals the one that is offered first.

    Without the header any will do. HTTPException 406 when it takes none of them, with a sentence that names
    them. Parameters other than `q` make no difference.
    """
    if accept is None:
        return offered[0]
    ranges = [_range(part) for part in accept.split(",") if part.strip()]
    best = max(offered, key=lambda media_type: _quality(media_type, ranges))
    if _quality(best, ranges) == 0:
        raise HTTPException(406, f"Accept one of {', '.join(offered)}.")
    return best


def _range(part: str) -> tuple[str, float]:
    """A media range and its quality; one that is no number counts as nothing."""
    media_range, *parameters = (piece.strip().lower() for piece in part.split(";"))
    quality = 1.0
    for parameter in parameters:
        name, _, value = parameter.partition("=")
        if name.strip() == "q":
            try:
                quality = float(value)
            except ValueError:
                quality = 0
    return media_range, quality if 0 <= quality <= 1 else 0


def _quality(media_type: str, ranges: Sequence[tuple[str, float]]) -> float:
    """That of the most specific range which the type is in; 0 in none."""
    for wanted in (media_type, media_type.partition("/")[0] + "/*", "*/*"):
        found = [quality for media_range, quality in ranges if media_range == wanted]
        if found:
            return max(found)
    return 0
