"""What Schemathesis cannot know of the requests that it makes."""

from typing import Any
from uuid import uuid4

import schemathesis


@schemathesis.hook
def before_call(_: schemathesis.HookContext, case: schemathesis.Case[Any], __: dict[str, Any]) -> None:
    """In requests that shall be accepted, a key is new, and there is no cursor: it is sealed to its query."""
    if case.meta is None or not case.meta.generation.mode.is_positive:
        return
    if "idempotency-key" in case.headers:
        case.headers["idempotency-key"] = str(uuid4())
    case.query.pop("cursor", None)


@schemathesis.serializer("application/x-ndjson")
def lines(_: schemathesis.SerializationContext, value: Any) -> bytes:  # noqa: ANN401  what was generated
    """Text as it is: the description says no more of its lines than that they are text."""
    return value if isinstance(value, bytes) else str(value).encode("utf-8", "replace")
