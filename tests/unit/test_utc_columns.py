from datetime import UTC, datetime, timedelta, timezone

import pytest
from sqlalchemy.dialects import mysql

from common.tables import UtcDateTime

COLUMN, DIALECT = UtcDateTime(), mysql.dialect()
NOON = datetime(2026, 1, 31, 12, tzinfo=UTC)


@pytest.mark.parametrize("zone", [UTC, timezone(timedelta(hours=5, minutes=30))])
def test_a_time_goes_in_and_comes_out_as_the_same_moment_in_utc(zone: timezone) -> None:
    stored = COLUMN.process_bind_param(NOON.astimezone(zone), DIALECT)
    assert stored == NOON.replace(tzinfo=None)
    assert COLUMN.process_result_value(stored, DIALECT) == NOON


def test_no_time_is_no_time() -> None:
    assert COLUMN.process_bind_param(None, DIALECT) is None
    assert COLUMN.process_result_value(None, DIALECT) is None


def test_a_time_without_zone_is_refused() -> None:
    with pytest.raises(ValueError, match="without zone"):
        COLUMN.process_bind_param(NOON.replace(tzinfo=None), DIALECT)
