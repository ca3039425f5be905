"""No service migrates; each refuses to serve on a schema that it does not know."""

import logging

from sqlalchemy import Engine, text
from sqlalchemy.exc import ProgrammingError

from common.database import transaction
from common.errors import DatabaseUnavailableError, StartError
from common.retry import retry
from common.tls import why_refused

SCHEMA_REVISION = "0007"
_LOG = logging.getLogger(__name__)
MIGRATE = "run `python -m alembic -c setup.cfg upgrade head` with this version of the code"


class UnknownSchemaError(StartError):
    """The database is at another schema than the one that this code knows."""


class NoSchemaError(UnknownSchemaError):
    """The database has no schema at all."""


def _revision(engine: Engine) -> str | None:
    try:
        with transaction(engine) as connection:
            return connection.execute(text("SELECT version_num FROM alembic_version")).scalar()
    except ProgrammingError:  # 1146: the table is not there
        return None


def _check(engine: Engine) -> None:
    found = _revision(engine)
    if found is None:
        raise NoSchemaError(f"The database has no schema yet: {MIGRATE}.")
    if found != SCHEMA_REVISION:
        raise UnknownSchemaError(
            f"The database is at schema {found}, this code knows {SCHEMA_REVISION}: {MIGRATE}."
        )


def _check_patiently(
    engine: Engine, times: int, delay: float, exceptions: tuple[type[Exception], ...]
) -> None:
    try:
        # A server that is silent makes each try as long as the engine's time-out.
        retry(times=times, delay=delay, exceptions=exceptions, within=times * delay)(_check)(engine)
    except DatabaseUnavailableError as error:
        if reason := why_refused(error):
            raise StartError(
                f"The certificate of the database is refused ({reason}):"
                " check DATABASE_TLS_CA, and that DATABASE_URL has the name that the certificate is for."
            ) from None
        raise StartError(
            "The database does not answer: check DATABASE_URL and that the server runs."
        ) from None


def require_known_schema(engine: Engine, *, patience_seconds: int = 30) -> None:
    """Return once the database answers with the schema of this code; StartError otherwise."""
    _check_patiently(engine, patience_seconds, 1, (DatabaseUnavailableError,))


def await_known_schema(engine: Engine, *, patience_seconds: int = 30) -> None:
    """What `require_known_schema` does, for a service, which may be started before the migration is.

    A database without a schema is waited for, and so is the end of a migration that begins meanwhile. A
    schema that is there from the first and is not ours is refused at once: waiting would hide that.
    """
    try:
        require_known_schema(engine)
    except NoSchemaError:
        _LOG.warning("waiting for schema", extra={"patience_seconds": patience_seconds})
        waited_for = (UnknownSchemaError, DatabaseUnavailableError)
        _check_patiently(engine, patience_seconds * 2, 0.5, waited_for)
