"""Ten processes at once, before there is a schema, against a broker on which nothing is declared."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import pytest
from sqlalchemy import Engine, text

from common.database import thread_engine
from devstack.stack import Stack
from outbox_relay.leases import Leases, list_relays
from tests.fixtures.broker import broker_control
from tests.fixtures.journal import BOOK
from tests.fixtures.schema import ROOT, database_settings, migrate, new_database
from tests.fixtures.system import PASSWORD, SCOPES, USERNAME
from tests.fixtures.system_services import Starter
from tests.waiting import eventually

KINDS = ["api"] * 3 + ["outbox_relay"] * 4 + ["grpc_reader"] * 3
SEEDING = text("SELECT id FROM information_schema.processlist WHERE info LIKE 'INSERT IGNORE INTO shard%'")
RECORDED = text("SELECT COUNT(*) FROM delivered_event GROUP BY book_id")


def active_consumers(stack: Stack) -> list[str]:
    """For each consumer of the reader's queue, whether it is the active one."""
    shown = broker_control(stack, "-q", "--no-table-headers", "list_consumers", "queue_name", "active")
    return sorted(line.split()[1] for line in shown.splitlines() if line.startswith("bookstore.reader"))


def add_user(environment: dict[str, str]) -> None:
    scopes = [word for scope in SCOPES.split() for word in ("--scope", scope)]
    words = [sys.executable, "-m", "api", "user", "add", USERNAME, *scopes, "--password-stdin"]
    subprocess.run(words, cwd=ROOT, env=environment, input=PASSWORD + "\n", text=True, check=True)


@pytest.mark.timeout(240)
@pytest.mark.usefixtures("fresh_broker")
def test_ten_processes_started_at_once_wait_for_the_schema_share_the_work_and_end_with_0(
    start: Starter, stack: Stack, tmp_path: Path
) -> None:
    with new_database(stack) as url:
        services = [start(kind, DATABASE_URL=url) for kind in KINDS]
        eventually(lambda: all("waiting for schema" in service.log for service in services), within=60)
        migrate(url)
        eventually(lambda: all(service.ready for service in services), within=60)
        engine = thread_engine(database_settings(url), autocommit=True)
        eventually(lambda: [relay.shards for relay in list_relays(engine)] == [16] * 4, within=20)
        eventually(lambda: active_consumers(stack) == ["false", "false", "true"], within=20)

        add_user({**os.environ, "DATABASE_URL": url})
        form = {"grant_type": "password", "username": USERNAME, "password": PASSWORD}
        for service in services[:3]:
            with httpx.Client(base_url=service.url, timeout=30) as client:
                token = client.post("/v1/auth/token", data=form).json()["access_token"]
                headers = {"Authorization": f"Bearer {token}"}
                assert client.post("/v1/books", json=BOOK, headers=headers).status_code == 201

        def recorded() -> bool:
            with engine.connect() as connection:
                return connection.execute(RECORDED).scalars().all() == [1, 1, 1]

        eventually(recorded)
        engine.dispose()
        for service in services:
            service.process.signal(signal.SIGTERM)
        for service in services:
            service.ends(within=15)
        assert {service.log.count("waiting for schema") for service in services} == {1}


@pytest.mark.usefixtures("fresh_broker")
def test_relay_that_finds_the_shards_locked_when_it_starts_tries_again(
    start: Starter, relay_engine: Engine
) -> None:
    Leases(relay_engine, "somebody else").seed()
    tries: set[int] = set()
    with relay_engine.connect() as other, relay_engine.connect() as third:
        other.execute(text("BEGIN"))
        other.execute(text("SELECT * FROM shard_lease FOR UPDATE"))
        relay = start("outbox_relay")

        def tried_again() -> bool:
            tries.update(third.execute(SEEDING).scalars())
            assert relay.process.running, relay.log
            return len(tries) > 1

        eventually(tried_again)
        other.execute(text("ROLLBACK"))
    eventually(lambda: relay.ready)
