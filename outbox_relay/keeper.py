import logging
import threading
from datetime import timedelta

from sqlalchemy import Engine
from sqlalchemy.exc import SQLAlchemyError

from common.errors import BookstoreError
from outbox_relay import history

_PERIOD_SECONDS = 3600.0
_AGAIN_SECONDS = 60.0
_LOG = logging.getLogger(__name__)


class HistoryKeeper:
    """Makes the partitions of the coming days and drops those older than `days`, in a thread of its own.

    Every relay does so once an hour; what another has done already is done.
    """

    def __init__(self, engine: Engine, days: int) -> None:
        self._engine = engine
        self._kept = timedelta(days=days)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="history", daemon=True)

    def start(self) -> None:
        """Look now, and then every hour."""
        self._thread.start()

    def close(self) -> None:
        """Look no more."""
        self._stopping.set()
        self._thread.join(timeout=2)

    def keep(self) -> None:
        """Look once."""
        today = history.today_utc(self._engine)
        made = history.make_days(self._engine, today)
        dropped = history.drop_days(self._engine, today - self._kept)
        if made or dropped:
            _LOG.info("history kept", extra={"days_made": len(made), "days_dropped": len(dropped)})

    def _run(self) -> None:
        pause = 0.0
        while not self._stopping.wait(pause):
            try:
                self.keep()
                pause = _PERIOD_SECONDS
            except (BookstoreError, SQLAlchemyError) as error:
                _LOG.warning("history not kept", extra={"error": str(error)})
                pause = _AGAIN_SECONDS
