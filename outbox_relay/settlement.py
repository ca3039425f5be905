import logging
import time

from sqlalchemy import Engine

from common import fault_points
from common.errors import ContendedError, DatabaseUnavailableError, OutcomeUnknownError
from outbox_relay import outbox
from outbox_relay.lanes import Lanes, WaitingEvent

_ROWS = 500
_SECONDS = 0.02
_LOG = logging.getLogger(__name__)


class Settlement:
    """Confirmed events on their way out of the outbox.

    Until that works they stay known to `lanes`, so that they are not sent again. Some are collected while
    the broker is busy with others, for a commit takes as long for one as for many.
    """

    def __init__(self, engine: Engine, lanes: Lanes) -> None:
        self._engine = engine
        self._lanes = lanes
        self._row_ids: set[int] = set()
        self._settled_at = 0.0

    def add(self, event: WaitingEvent) -> None:
        """The broker has confirmed and routed it."""
        self._row_ids.add(event.row_id)

    def settle_if_due(self, *, idle: bool) -> None:
        """Settle at once when the broker is `idle`, else 500 events together or those of 20 ms."""
        if idle or len(self._row_ids) >= _ROWS or time.monotonic() - self._settled_at >= _SECONDS:
            self.settle()

    def settle(self) -> bool:
        """Take all that was confirmed out of the outbox; False when that must be tried again later."""
        self._settled_at = time.monotonic()
        if not self._row_ids:
            return True
        try:
            fault_points.reach("relay.before-settle")
            outbox.settle(self._engine, self._row_ids)
        except (DatabaseUnavailableError, ContendedError, OutcomeUnknownError) as error:
            _LOG.warning("relay cannot settle yet", extra={"error": str(error)})
            return False
        fault_points.reach("relay.after-settle")
        self._lanes.forget(self._row_ids)
        self._row_ids.clear()
        return True
