"""What the drivers' errors mean."""

import pymysql
import pytest
from pydantic import SecretStr
from sqlalchemy.exc import DBAPIError, IntegrityError, InterfaceError, OperationalError, ProgrammingError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from common.database import driver_url
from common.driver_errors import translate
from common.errors import ContendedError, DatabaseUnavailableError, OutcomeUnknownError, StartError
from common.settings import DatabaseSettings


def operational(code: int) -> DBAPIError:
    return OperationalError("COMMIT", None, pymysql.err.OperationalError(code, "said by the server"))


@pytest.mark.parametrize("code", [1205, 1213])
@pytest.mark.parametrize("committing", [False, True])
def test_a_deadlock_or_a_lock_wait_has_changed_nothing(code: int, committing: bool) -> None:  # noqa: FBT001
    assert type(translate(operational(code), committing=committing)) is ContendedError


@pytest.mark.parametrize("code", [1290, 1836])
@pytest.mark.parametrize("committing", [False, True])
def test_a_server_that_is_read_only_has_changed_nothing(code: int, committing: bool) -> None:  # noqa: FBT001
    assert type(translate(operational(code), committing=committing)) is DatabaseUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        *map(operational, (1040, 1045, 1053, 1129, 1317, 1927, 2003, 2006, 2013)),
        InterfaceError("SELECT 1", None, pymysql.err.InterfaceError(0, "closed")),
        ConnectionResetError("gone"),
        TimeoutError(),
    ],
    ids=repr,
)
def test_a_lost_connection_is_an_unknown_outcome_only_while_committing(error: Exception) -> None:
    assert type(translate(error)) is DatabaseUnavailableError
    assert type(translate(error, committing=True)) is OutcomeUnknownError


def test_a_commit_answered_with_an_error_of_another_kind_is_an_unknown_outcome() -> None:
    failed = operational(1180)
    assert translate(failed) is failed
    assert type(translate(failed, committing=True)) is OutcomeUnknownError


@pytest.mark.parametrize(
    "error",
    [
        pymysql.err.InternalError(167, "Out of range value for column 'id' at row 1"),
        pymysql.err.OperationalError(1467, "Failed to read auto-increment value from storage engine"),
        pymysql.err.IntegrityError(1062, f"Duplicate entry '{2**63 - 1}' for key 'book.PRIMARY'"),
    ],
    ids=repr,
)
def test_a_table_without_ids_to_give_takes_nothing_at_the_moment(error: pymysql.err.Error) -> None:
    assert type(translate(DBAPIError("INSERT", None, error))) is DatabaseUnavailableError
    assert type(translate(error)) is DatabaseUnavailableError


def test_a_busy_pool_is_an_unavailable_database() -> None:
    assert type(translate(PoolTimeoutError("QueuePool limit"))) is DatabaseUnavailableError


@pytest.mark.parametrize(
    "error",
    [
        ProgrammingError("SELEC", None, pymysql.err.ProgrammingError(1064, "syntax")),
        IntegrityError("INSERT", None, pymysql.err.IntegrityError(1062, "duplicate")),
        ValueError("no error of a database"),
    ],
)
def test_what_can_only_be_a_bug_stays_what_it_is(error: Exception) -> None:
    assert translate(error) is error


@pytest.mark.parametrize(
    "url",
    [
        "",
        "nonsense",
        "mysql://host:port/name",
        "sqlite://",
        "postgresql://h/n",
        "mysql:///name",
        "mysql://host",
    ],
)
def test_an_address_that_is_none_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(StartError, match="DATABASE_URL") as raised:
        driver_url(DatabaseSettings(database_url=SecretStr(url)), "pymysql")
    assert not url or url not in str(raised.value)


@pytest.mark.parametrize("scheme", ["mysql", "mariadb", "mysql+asyncmy", "mariadb+pymysql"])
def test_the_driver_is_the_services_choice(scheme: str) -> None:
    url = driver_url(DatabaseSettings(database_url=SecretStr(f"{scheme}://u:p@h:1/n")), "pymysql")
    assert url.render_as_string(hide_password=False) == "mysql+pymysql://u:p@h:1/n?charset=utf8mb4"
