"""What Schemathesis changes in a request that it has made; no schema can say either."""

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
