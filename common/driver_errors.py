"""What an error of the database's driver means for whoever asked."""

from sqlalchemy.exc import DBAPIError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeoutError

from common.errors import ContendedError, DatabaseUnavailableError, OutcomeUnknownError

_CONTENDED = (ContendedError, "Another change of the same rows was under way.")
_READ_ONLY = (DatabaseUnavailableError, "The database takes no changes at the moment.")
_NO_IDS = (DatabaseUnavailableError, "The database has no more ids to give.")
# Lock wait timeout, deadlock, a lock that was not to be waited for, a server that is read-only, at the commit
# too, and a table without ids (MariaDB's code, MySQL's): nothing was changed.
_REFUSALS = {1205: _CONTENDED, 1213: _CONTENDED, 3572: _CONTENDED, 1290: _READ_ONLY, 1836: _READ_ONLY}
_REFUSALS |= {167: _NO_IDS, 1467: _NO_IDS}
# MySQL gives the very last id again and again.
_LAST_ID_TWICE = f"Duplicate entry '{2**63 - 1}' for key"
# The server refuses or ends the connection, or it is gone: too many connections, no rights, shutdown, a host
# that it has blocked, lost; the last three say that somebody has ended the statement.
_LOST_CODES = frozenset(
    {
        *(1040, 1042, 1044, 1045, 1049, 1053, 1077, 1129, 1135, 1152, 1203, 1226, 1927),
        *(2002, 2003, 2006, 2013, 2014, 2055, 4031, 1317, 1969, 3024),
    }
)
_LOCK_WAIT_TIMEOUT = 1205


def is_lock_wait_timeout(error: DBAPIError) -> bool:
    """Whether somebody else has held a lock for too long; a deadlock, which is over at once, is none."""
    return _code_of(error.orig) == _LOCK_WAIT_TIMEOUT


def _code_of(cause: BaseException | None) -> int:
    """The server's or the driver's number; 0 for what has none."""
    return cause.args[0] if cause is not None and cause.args and isinstance(cause.args[0], int) else 0


def translate(error: Exception, *, committing: bool = False) -> Exception:
    """The error of ours that a driver's error means, or the error itself when it can only be a bug."""
    if isinstance(error, PoolTimeoutError):
        return DatabaseUnavailableError("All database connections are busy.")
    cause = error.orig if isinstance(error, DBAPIError) else error
    code = _code_of(cause)
    if code in _REFUSALS or _LAST_ID_TWICE in str(cause):
        kind, sentence = _REFUSALS.get(code, _NO_IDS)
        return kind(sentence)
    if isinstance(cause, OSError) or code in _LOST_CODES or isinstance(error, InterfaceError):
        if committing:
            return OutcomeUnknownError("The database connection was lost during the commit.")
        return DatabaseUnavailableError("The database cannot be reached.")
    if isinstance(error, OperationalError) and committing:
        return OutcomeUnknownError("The commit was not answered as expected.")
    return error
