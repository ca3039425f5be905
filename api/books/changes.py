"""What every call that changes a book comes with."""

from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from api.auth.dependencies import requires
from api.books.conditions import Conditions, ConditionsOf
from api.books.etags import Versions
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
    conditions: Conditions | None
    key: str | None

    @property
    def versions(self) -> Versions | None:
        """The versions that the book may be at; None: any. ConditionRequiredError where one is required."""
        if self.services.if_match_required and (self.conditions is None or self.conditions.if_match is None):
            raise ConditionRequiredError("Send If-Match with the ETag of the book that you have read.")
        return None if self.conditions is None else self.conditions.versions

    @property
    def traceparent(self) -> str:
        """The trace that the change belongs to."""
        return traceparent_of(self.request)

    def request_key(self, content: str = "") -> RequestKey | None:
        """What names this request, if anything does; `content` is what is asked for, as JSON."""
        if self.key is None:
            return None
        found = self.conditions
        conditions = (None, None) if found is None else (found.if_match, found.if_none_match)
        asked = (self.request.method, self.request.url.path, *conditions, content)
        return RequestKey.of(self.caller.username, self.key, *asked)


async def _change_of(
    caller: Writer,
    request: Request,
    services: ServicesOf,
    conditions: ConditionsOf,
    key: IdempotencyKey = None,
) -> Change:
    return Change(request, services, caller, conditions, key)


async def _addition_of(
    caller: Writer, request: Request, services: ServicesOf, key: IdempotencyKey = None
) -> Change:
    return Change(request, services, caller, None, key)


ChangeOf = Annotated[Change, Depends(_change_of)]
AdditionOf = Annotated[Change, Depends(_addition_of)]
