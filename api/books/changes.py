"""What every call that changes a book comes with."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.auth.dependencies import requires
from api.books.conditions import IfMatch
from api.books.etags import matching_versions
from api.books.idempotency import RequestKey
from api.books.request_keys import IdempotencyKey
from api.services import Services, services_of
from api.traces import traceparent_of
from common.errors import ConditionRequiredError
from common.tokens import Principal

ServicesOf = Annotated[Services, Depends(services_of)]
Writer = Annotated[Principal, Depends(requires("books:write"))]


@dataclass(frozen=True)
class Change:
    """Who asks for a change, under which conditions, and under which name."""

    request: Request
    services: Services
    caller: Principal
    if_match: str | None
    key: str | None

    @property
    def versions(self) -> frozenset[int] | None:
        """The versions that the book may be at; None: any.

        InvalidInputError for a bad header, ConditionRequiredError for none where one is required.
        """
        if self.if_match is None and self.services.if_match_required:
            raise ConditionRequiredError("Send If-Match with the ETag of the book that you have read.")
        return matching_versions(self.if_match)

    @property
    def traceparent(self) -> str:
        """The trace that the change belongs to."""
        return traceparent_of(self.request)

    def request_key(self, content: str = "") -> RequestKey | None:
        """What names this request, if anything does; `content` is what is asked for, as JSON."""
        if self.key is None:
            return None
        asked = (self.request.method, self.request.url.path, self.if_match, content)
        return RequestKey.of(self.caller.username, self.key, *asked)


async def _change_of(
    caller: Writer,
    request: Request,
    services: ServicesOf,
    if_match: IfMatch = None,
    key: IdempotencyKey = None,
) -> Change:
    return Change(request, services, caller, if_match, key)


async def _addition_of(
    caller: Writer, request: Request, services: ServicesOf, key: IdempotencyKey = None
) -> Change:
    return Change(request, services, caller, None, key)


ChangeOf = Annotated[Change, Depends(_change_of)]
AdditionOf = Annotated[Change, Depends(_addition_of)]
