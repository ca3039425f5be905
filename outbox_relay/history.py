"""The history of sent events, a partition for each day of change: made days ahead, dropped whole."""

import re
from datetime import UTC, date, datetime, timedelta
from typing import cast

from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from common.database import transaction
from common.errors import ContendedError
from outbox_relay.tables import PARTITION_OF_THE_REST

DAYS_AHEAD = 7
_LOCK_SECONDS = 2
_UNKNOWN_PARTITION = 1735
# The name is there already, the partition to drop is gone, or the rest is being split: another was quicker.
_CHANGED_MEANWHILE = frozenset({1493, 1507, 1517})
_NAME = re.compile("day_([0-9]{8})")
_DAYS = text(
    "SELECT partition_name FROM information_schema.partitions"
    " WHERE table_schema = DATABASE() AND table_name = 'sent_event' ORDER BY partition_ordinal_position"
)


def days(engine: Engine) -> list[date]:
    """The days that have a partition, oldest first."""
    with transaction(engine) as connection:
        return _partitions(connection)


def count_events(engine: Engine, day: date) -> int:
    """How many events a day's partition holds; none when it has been dropped."""
    with transaction(engine) as connection:
        try:
            statement = f"SELECT COUNT(*) FROM sent_event PARTITION ({_name(day)})"
            return int(connection.exec_driver_sql(statement).scalar_one())
        except DBAPIError as error:
            if error.orig is not None and error.orig.args[0] == _UNKNOWN_PARTITION:
                return 0
            raise


def make_days(engine: Engine, today: date) -> list[date]:
    """Make the partitions of today and the next seven days, where they are not there yet.

    What lies before the first of them goes into that one, what lies behind the last into a catch-all.
    """
    with transaction(engine) as connection:
        newest = max(_partitions(connection), default=today - timedelta(days=1))
        wanted = [today + timedelta(days=ahead) for ahead in range(DAYS_AHEAD + 1)]
        missing = [day for day in wanted if day > newest]
        if missing:
            parts = ", ".join(
                f"PARTITION {_name(day)} VALUES LESS THAN ('{day + timedelta(days=1)}')" for day in missing
            )
            rest = f"PARTITION {PARTITION_OF_THE_REST} VALUES LESS THAN (MAXVALUE)"
            _alter(connection, f"REORGANIZE PARTITION {PARTITION_OF_THE_REST} INTO ({parts}, {rest})")
    return missing


def drop_days(engine: Engine, before: date) -> list[date]:
    """Drop the partitions of the days before that one, whole, in milliseconds; returns their days.

    ContendedError when somebody holds the table for more than two seconds.
    """
    with transaction(engine) as connection:
        old = [day for day in _partitions(connection) if day < before]
        if old:
            _alter(connection, f"DROP PARTITION {', '.join(map(_name, old))}")
    return old


def today_utc(engine: Engine) -> date:
    """The day that it is by the database's clock, which all relays share; one's own may be years ahead."""
    with transaction(engine) as connection:
        return cast("date", connection.exec_driver_sql("SELECT UTC_DATE()").scalar_one())


def _partitions(connection: Connection) -> list[date]:
    names = connection.execute(_DAYS).scalars()
    found = (_NAME.fullmatch(name) for name in names)
    return [datetime.strptime(match[1], "%Y%m%d").replace(tzinfo=UTC).date() for match in found if match]


def _name(day: date) -> str:
    return f"day_{day:%Y%m%d}"


def _alter(connection: Connection, change: str) -> None:
    # A change of the table waits for whoever reads it, and all who come later wait for the change.
    connection.exec_driver_sql(f"SET SESSION lock_wait_timeout = {_LOCK_SECONDS}")
    try:
        connection.exec_driver_sql(f"ALTER TABLE sent_event {change}")
    except DBAPIError as error:
        if error.orig is not None and error.orig.args[0] in _CHANGED_MEANWHILE:
            raise ContendedError("Another relay has changed the partitions at the same time.") from error
        raise
    finally:
        connection.exec_driver_sql("SET SESSION lock_wait_timeout = DEFAULT")
