from collections.abc import Iterator
from pathlib import Path

import pytest
from alembic.script import ScriptDirectory
from sqlalchemy import text
from sqlmodel import SQLModel

import outbox_relay.tables  # noqa: F401  the tables register themselves
from common.database import thread_engine
from common.errors import StartError
from common.schema import SCHEMA_REVISION, require_known_schema
from devstack.stack import Stack
from tests.fixtures.schema import ROOT, database_settings, migrate, new_database
from tests.fixtures.system import System, system_environment

SCRIPTS = ScriptDirectory(str(ROOT / "alembic"))
REVISIONS = [script.revision for script in SCRIPTS.walk_revisions()][::-1]


@pytest.fixture
def empty_url(stack: Stack) -> Iterator[str]:
    with new_database(stack) as url:
        yield url


def tables(url: str) -> dict[str, list[str]]:
    """Each table's definition as the server gives it, line by line; the order of keys is left out."""
    engine = thread_engine(database_settings(url))
    with engine.begin() as connection:
        names = connection.execute(text("SHOW TABLES")).scalars().all()
        found = {name: connection.execute(text(f"SHOW CREATE TABLE {name}")).one()[1] for name in names}
    engine.dispose()
    return {name: sorted(line.strip(" ,") for line in sql.splitlines()) for name, sql in found.items()}


def at_revision(url: str, revision: str) -> None:
    execute(url, f"UPDATE alembic_version SET version_num = '{revision}'")  # noqa: S608  our own text


def execute(url: str, statement: str) -> None:
    engine = thread_engine(database_settings(url))
    with engine.begin() as connection:
        connection.execute(text(statement))
    engine.dispose()


@pytest.fixture
def operator(stack: Stack, empty_url: str, tmp_path: Path) -> System:
    """Whoever types commands; no service of this system runs."""
    return System(system_environment(stack, empty_url, tmp_path))


def test_code_names_the_newest_migration() -> None:
    assert SCRIPTS.get_heads() == [SCHEMA_REVISION]


def test_upgrade_makes_the_tables_that_the_code_describes_to_the_letter(stack: Stack, empty_url: str) -> None:
    with new_database(stack) as described:
        engine = thread_engine(database_settings(described))
        SQLModel.metadata.create_all(engine)
        engine.dispose()
        migrate(empty_url)
        migrated = tables(empty_url)
        del migrated["alembic_version"]
        assert migrated == tables(described)


def test_downgrade_leaves_nothing_and_the_next_upgrade_makes_the_same_again(empty_url: str) -> None:
    migrate(empty_url)
    migrated = tables(empty_url)
    migrate(empty_url, "base", "downgrade")
    assert set(tables(empty_url)) == {"alembic_version"}
    migrate(empty_url)
    assert tables(empty_url) == migrated


def test_every_step_can_be_taken_back(empty_url: str) -> None:
    migrate(empty_url, "base", "downgrade")
    for revision in REVISIONS:
        before = tables(empty_url)
        migrate(empty_url, revision)
        assert tables(empty_url) != before
        migrate(empty_url, "-1", "downgrade")
        assert tables(empty_url) == before, f"{revision} leaves something behind"
        migrate(empty_url, revision)


def test_drift_check_is_content_with_the_migrations_and_sees_a_column_that_no_code_knows(
    operator: System, empty_url: str
) -> None:
    migrate(empty_url)
    check = ("alembic", "-c", "setup.cfg", "check")
    done = operator.run(*check)
    assert done.returncode == 0, done.stderr
    execute(empty_url, "ALTER TABLE delivered_event ADD COLUMN stray INT")
    done = operator.run(*check)
    assert done.returncode != 0
    assert "stray" in done.stdout


@pytest.mark.parametrize("service", ["api", "outbox_relay", "grpc_reader"])
def test_no_service_serves_with_a_schema_that_it_does_not_know(
    operator: System, empty_url: str, service: str
) -> None:
    """One that is not there at all is waited for first (test_schema.py)."""
    migrate(empty_url)
    at_revision(empty_url, "0000")
    done = operator.run(service, "serve", within=30)
    assert done.returncode == 1
    [said] = (done.stdout + done.stderr).splitlines()
    assert (
        f"The database is at schema 0000, this code knows {SCHEMA_REVISION}: run `python -m alembic" in said
    )


def test_schema_that_was_taken_down_or_is_newer_than_the_code_is_refused(empty_url: str) -> None:
    engine = thread_engine(database_settings(empty_url))
    migrate(empty_url)
    require_known_schema(engine)
    at_revision(empty_url, "from_the_future")
    with pytest.raises(StartError, match="at schema from_the_future, this code knows"):
        require_known_schema(engine)
    at_revision(empty_url, SCHEMA_REVISION)
    migrate(empty_url, "base", "downgrade")
    with pytest.raises(StartError, match="has no schema yet"):
        require_known_schema(engine)
    engine.dispose()
