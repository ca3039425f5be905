"""`make soak`: faults of every family at random, under load, from a seed; then the checker's verdict.

Exit codes: 0 all is well, 1 a violation, 2 a crash, a recovery that was given up, or no rest at the end.
"""

import argparse
import contextlib
import math
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from pydantic import SecretStr

from common.database import thread_engine
from common.settings import BrokerSettings
from devstack.stack import STATE
from grpc_reader.client import Client as GrpcClient
from tests.faults.checker import check
from tests.faults.collecting import collect
from tests.faults.journal import Journal
from tests.faults.rest_client import RestClient
from tests.faults.workload import Readings, Workload, running
from tests.fixtures.relay import backlog
from tests.fixtures.schema import database_settings
from tests.soak.cluster import Cluster, cluster, pause
from tests.soak.families import FAULTS, Fault
from tests.soak.report import Run, write_report
from tests.soak.tap import LastingTap
from tests.soak.timeline import Mark, Timeline

_CALM_SECONDS = (0.5, 4.0)
_LONGEST_RECOVERY_SECONDS = 60.0
_REST_SECONDS = 180.0
_NEW_SECONDS = 5.0
_WRITERS = 14
_HOT_BOOKS = 20


def soak(minutes: float, seed: int, faults: Sequence[Fault], folder: Path, report: Path) -> int:
    """Run it; the exit code."""
    chance = random.Random(seed)  # noqa: S311  to be repeated, not to be guessed
    with cluster(folder) as found, contextlib.ExitStack() as until_the_end:
        engine = thread_engine(database_settings(found.stack.database_url), autocommit=True, pool_size=4)
        tap = LastingTap(BrokerSettings(broker_url=SecretStr(found.stack.broker_url)))
        tap.start()
        timeline, journal = Timeline(engine), Journal(folder / "journal.jsonl")
        timeline.start()
        with found.system.client() as client:
            authorization = client.headers["Authorization"]

        def new_client() -> RestClient:
            return RestClient(found.system.api_url, authorization, journal)

        rest = until_the_end.enter_context(contextlib.closing(new_client()))
        hot = [change.book_id for change in (rest.create() for _ in range(_HOT_BOOKS)) if change.book_id]
        address = f"127.0.0.1:{found.system.environment['GRPC_PORT']}"
        grpc = until_the_end.enter_context(GrpcClient(address, authorization.split()[1]))
        workload = Workload(new_client, Readings(rest, grpc, engine, journal), hot, _WRITERS)
        with running(workload):
            _storm(found, faults, chance, timeline, minutes * 60)
        found.heal()
        at_rest = _rest(found, rest, timeline, tap)
        tap.close()
        timeline.close()
        evidence = collect(journal, engine, tap.published)
        violations = check(evidence)
        servers = ", ".join(server.title for server in found.stack.servers)
        crashes = [*found.crashes, *journal.server_errors]
        page = write_report(report, Run(seed, minutes, servers, evidence, violations, crashes), timeline)
        engine.dispose()
    print(page.read_text())
    if violations:
        return 1
    return 0 if at_rest and not crashes and all(mark.recovered for mark in timeline.marks) else 2


def _storm(
    found: Cluster, faults: Sequence[Fault], chance: random.Random, timeline: Timeline, seconds: float
) -> None:
    while timeline.now() < seconds:
        fault = chance.choice(faults)
        begin = timeline.now()
        print(f"{begin:7.1f} s  {fault.name}", flush=True)
        try:
            fault.act(found, chance)
        except subprocess.SubprocessError as error:
            found.crashes.append(f"{fault.name} could not be done: {error}")
            continue
        end = timeline.now()
        found.heal()
        while not (well := found.ready() and _caught_up(timeline, end)):
            if timeline.now() - end > _LONGEST_RECOVERY_SECONDS:
                break
            pause(0.2, found)
        recovery = timeline.now() - end if well else math.inf
        timeline.marks.append(Mark(fault.name, begin, end, recovery))
        pause(chance.uniform(*_CALM_SECONDS), found)


def _caught_up(timeline: Timeline, since: float) -> bool:
    """Whether, at some time since then, little waited to be sent and what was recorded was new."""
    recent = [sample for sample in timeline.samples[-5:] if sample.second > since]
    return any(sample.backlog < 50 and sample.age_seconds < _NEW_SECONDS for sample in recent)


def _rest(found: Cluster, rest: RestClient, timeline: Timeline, tap: LastingTap) -> bool:
    """Wait until nothing is left to send and a last book has come through; False if that takes too long."""
    deadline = time.monotonic() + _REST_SECONDS
    last = 0
    while time.monotonic() < deadline:
        pause(0.5, found)
        if not found.ready() or backlog(timeline.engine):
            continue
        if not last:
            last = rest.create().book_id or 0
        elif last and _recorded(timeline, last):
            return tap.await_all(_REST_SECONDS)
    return False


def _recorded(timeline: Timeline, book_id: int) -> bool:
    with timeline.engine.connect() as connection:
        query = f"SELECT COUNT(*) FROM delivered_event WHERE book_id = {book_id}"  # noqa: S608  a number
        return bool(connection.exec_driver_sql(query).scalar_one())


def main() -> int:
    """Run a soak as the command line says."""
    parser = argparse.ArgumentParser(prog="python -m tests.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=60)
    parser.add_argument("--seed", type=int, default=None, help="by default a new one, which is printed")
    parser.add_argument("--report", type=Path, default=STATE / "soak", help="where page, plot and logs go")
    parser.add_argument("--only", default="", metavar="TEXT", help="faults whose names contain it")
    chosen = parser.parse_args()
    faults = [fault for fault in FAULTS if chosen.only in fault.name]
    if not faults:
        parser.error(f"no fault is called so; there are: {', '.join(fault.name for fault in FAULTS)}")
    seed = chosen.seed if chosen.seed is not None else random.SystemRandom().randrange(10**6)
    print(f"seed {seed}, {chosen.minutes:g} minutes", flush=True)
    STATE.mkdir(mode=0o700, exist_ok=True)
    chosen.report.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=STATE, prefix="soak-", ignore_cleanup_errors=True) as folder:
        try:
            return soak(chosen.minutes, seed, faults, Path(folder), chosen.report)
        finally:
            for log in Path(folder).glob("*.log"):
                shutil.copy(log, chosen.report)


if __name__ == "__main__":
    sys.exit(main())
