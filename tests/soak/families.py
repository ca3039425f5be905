"""What is done to the cluster, one fault at a time; each undoes what it did."""

import contextlib
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pymysql
from kombu import Connection
from redis import Redis
from sqlalchemy import make_url

from common.broker import EVENTS
from grpc_reader.topology import QUEUE
from tests.faults.launch import arm
from tests.faults.points import READER, RELAY
from tests.faults.proxy import BLACK_HOLE, HALF_OPEN, Line
from tests.fixtures.relay import make_tap
from tests.soak.cluster import Cluster, pause, restart

SERVERS = ("database", "broker", "cache")
# A fault begins when all is well: what a reader has not got by then was sent in these last seconds.
_AT_MOST_BEHIND = timedelta(seconds=30)


@dataclass(frozen=True)
class Fault:
    """A kind of fault: `name` is what the report calls it."""

    name: str
    act: Callable[[Cluster, random.Random], None]


def _any(cluster: Cluster, chance: random.Random, module: str) -> str:
    return chance.choice([name for name in cluster.processes if name.startswith(module)])


def killed(module: str) -> Fault:
    """One process of a service is killed; it is started again."""

    def act(cluster: Cluster, chance: random.Random) -> None:
        cluster.processes[_any(cluster, chance, module)].signal(signal.SIGKILL)

    return Fault(f"{module} killed", act)


def killed_at_a_point(module: str, points: Sequence[str]) -> Fault:
    """One process of a service is killed when it comes to a named place, if it does in time."""

    def act(cluster: Cluster, chance: random.Random) -> None:
        folder = cluster.faults_folder(_any(cluster, chance, module))
        arm(folder, f"kill {chance.choice(points)} {chance.randint(1, 5)}")
        pause(chance.uniform(0.5, 4), cluster)
        (folder / "armed").unlink(missing_ok=True)

    return Fault(f"{module} killed at a named point", act)


def stopped(module: str) -> Fault:
    """One process of a service is asked to stop and stays away for a while."""

    def act(cluster: Cluster, chance: random.Random) -> None:
        name = _any(cluster, chance, module)
        cluster.resting.add(name)
        cluster.processes[name].signal(signal.SIGTERM)
        pause(chance.uniform(0.5, 5), cluster)
        cluster.resting.discard(name)

    return Fault(f"{module} stopped", act)


def frozen(module: str) -> Fault:
    """One process of a service stands still for a while, and wakes up with all that it had in mind."""

    def act(cluster: Cluster, chance: random.Random) -> None:
        process = cluster.processes[_any(cluster, chance, module)]
        process.signal(signal.SIGSTOP)
        pause(chance.uniform(0.5, 12), cluster)
        process.signal(signal.SIGCONT)

    return Fault(f"{module} frozen", act)


def server_killed(name: str) -> Fault:
    """A server is killed and started again after a while."""

    def act(cluster: Cluster, chance: random.Random) -> None:
        server = cluster.server(name)
        for process in server.processes:
            process.signal(signal.SIGKILL)
        pause(chance.uniform(0, 3), cluster)
        restart(server)

    return Fault(f"{name} killed", act)


def server_restarted(name: str) -> Fault:
    """A server is restarted in good order."""

    def act(cluster: Cluster, _: random.Random) -> None:
        restart(cluster.server(name))

    return Fault(f"{name} restarted", act)


def server_frozen(name: str) -> Fault:
    """A server stands still: connections stay, and nothing answers."""

    def act(cluster: Cluster, chance: random.Random) -> None:
        process = cluster.server(name).processes[-1]
        process.signal(signal.SIGSTOP)
        pause(chance.uniform(0.5, 15), cluster)
        process.signal(signal.SIGCONT)

    return Fault(f"{name} frozen", act)


def line(name: str, kind: str, state: Line | None) -> Fault:
    """The line from all services to a server is bad for a while; None cuts it."""

    def act(cluster: Cluster, chance: random.Random) -> None:
        proxy = cluster.lines[name]
        if state is None:
            proxy.cut()
        else:
            proxy.set(state)
        pause(chance.uniform(0.5, 8), cluster)
        # What was held back would arrive now; a line that was gone for long does not bring it back.
        proxy.cut()
        proxy.set(Line())

    return Fault(f"line to {name} {kind}", act)


def _memory_alarm(cluster: Cluster, chance: random.Random) -> None:
    cluster.broker_control("set_vm_memory_high_watermark", "0.00001")
    pause(chance.uniform(1, 6), cluster)
    cluster.broker_control("set_vm_memory_high_watermark", "0.4")


def _disk_alarm(cluster: Cluster, chance: random.Random) -> None:
    cluster.broker_control("set_disk_free_limit", "1000000GB")
    pause(chance.uniform(1, 6), cluster)
    cluster.broker_control("set_disk_free_limit", "50MB")


def _rights_taken(cluster: Cluster, chance: random.Random) -> None:
    user = make_url(cluster.stack.broker_url).username
    assert user is not None
    cluster.broker_control("clear_permissions", user)
    pause(chance.uniform(1, 6), cluster)
    cluster.broker_control("set_permissions", user, ".*", ".*", ".*")


def _replay(cluster: Cluster, taken_at: datetime) -> None:
    """What an operator does who has taken events from the reader."""
    since = taken_at - _AT_MOST_BEHIND
    replayed = cluster.system.run("outbox_relay", "replay", "--since", since.isoformat())
    assert replayed.returncode == 0, replayed.stderr


def _queue_deleted(cluster: Cluster, chance: random.Random) -> None:
    """What stood in it is gone from the broker; the operator has it sent again."""
    taken_at = datetime.now(UTC)
    with Connection(cluster.stack.broker_url, connect_timeout=5) as connection:
        connection.default_channel.queue_delete(QUEUE.name)
    pause(chance.uniform(0, 6), cluster)
    _replay(cluster, taken_at)


def _exchange_deleted(cluster: Cluster, chance: random.Random) -> None:
    """All bindings go with it. The tap has its own again at once, the reader when it finds out."""
    taken_at = datetime.now(UTC)
    with Connection(cluster.stack.broker_url, connect_timeout=5) as connection:
        connection.default_channel.exchange_delete(EVENTS.name)
        make_tap(connection)
    pause(chance.uniform(0, 6), cluster)
    _replay(cluster, taken_at)


def _clock_jumps(cluster: Cluster, chance: random.Random) -> None:
    cluster.clock.jump(chance.choice(["+5h", "-7h", "+40d", "-400d"]))
    pause(chance.uniform(1, 6), cluster)


def _connections_closed(cluster: Cluster, _: random.Random) -> None:
    cluster.broker_control("close_all_connections", "an operator's reason")


@contextmanager
def _admin(cluster: Cluster) -> Iterator[pymysql.cursors.Cursor]:
    url = make_url(cluster.stack.database_url)
    with (
        pymysql.connect(
            host=url.host,
            port=url.port or 0,
            user=url.username,
            password=str(url.password),
            database=url.database,
            autocommit=True,
        ) as connection,
        connection.cursor() as cursor,
    ):
        yield cursor


def _kill_connections(cursor: pymysql.cursors.Cursor) -> None:
    cursor.execute(
        "SELECT id FROM information_schema.processlist WHERE db = DATABASE() AND id <> CONNECTION_ID()"
    )
    for (victim,) in cursor.fetchall():
        with contextlib.suppress(pymysql.MySQLError):  # it has ended by itself
            cursor.execute(f"KILL {victim}")


def _connections_killed(cluster: Cluster, _: random.Random) -> None:
    with _admin(cluster) as cursor:
        _kill_connections(cursor)


def _foreign_lock(cluster: Cluster, chance: random.Random) -> None:
    table = chance.choice(["outbox", "book", "shard_lease", "recorder", "delivered_event"])
    with _admin(cluster) as cursor:
        cursor.execute(f"LOCK TABLES {table} WRITE")
        pause(chance.uniform(0.5, 7), cluster)
        cursor.execute("UNLOCK TABLES")


def _read_only(cluster: Cluster, chance: random.Random) -> None:
    with _admin(cluster) as cursor:
        cursor.execute("SET GLOBAL read_only = 1")
        pause(chance.uniform(0.5, 7), cluster)
        cursor.execute("SET GLOBAL read_only = 0")


def _out_of_connections(cluster: Cluster, chance: random.Random) -> None:
    """Those that there are die, and few can be made."""
    with _admin(cluster) as cursor:
        cursor.execute("SELECT @@GLOBAL.max_connections")
        [(before,)] = cursor.fetchall()
        cursor.execute("SET GLOBAL max_connections = 10")
        _kill_connections(cursor)
        pause(chance.uniform(0.5, 7), cluster)
        cursor.execute(f"SET GLOBAL max_connections = {before}")


def _cache_restored(cluster: Cluster, chance: random.Random) -> None:
    """The cache is started with what was in it a while ago."""
    server = cluster.server("cache")
    with Redis.from_url(cluster.stack.cache_url) as client:
        client.save()
        dump = Path(client.config_get("dir")["dir"]) / "dump.rdb"
    pause(chance.uniform(0.5, 5), cluster)
    server.processes[-1].signal(signal.SIGKILL)
    restart(server)
    dump.unlink()


def _cache_flushed(cluster: Cluster, _: random.Random) -> None:
    with Redis.from_url(cluster.stack.cache_url) as client:
        client.flushall()


FAULTS = [
    *(killed(module) for module in ("outbox_relay", "grpc_reader", "api")),
    killed_at_a_point("outbox_relay", RELAY),
    killed_at_a_point("grpc_reader", READER),
    killed_at_a_point("api", ("api.after-commit",)),
    *(stopped(module) for module in ("outbox_relay", "grpc_reader", "api")),
    *(frozen(module) for module in ("outbox_relay", "grpc_reader", "api")),
    *(server_killed(name) for name in SERVERS),
    *(server_restarted(name) for name in SERVERS),
    *(server_frozen(name) for name in SERVERS),
    *(line(name, "cut", None) for name in SERVERS),
    *(line(name, "half open", HALF_OPEN) for name in SERVERS),
    *(line(name, "black hole", BLACK_HOLE) for name in SERVERS),
    *(line(name, "slow", Line(delay_seconds=0.05, bytes_per_second=50_000)) for name in SERVERS),
    Fault("broker short of memory", _memory_alarm),
    Fault("broker short of disk", _disk_alarm),
    Fault("broker closes all connections", _connections_closed),
    Fault("rights on the broker taken away", _rights_taken),
    Fault("queue deleted, events replayed", _queue_deleted),
    Fault("exchange deleted, events replayed", _exchange_deleted),
    Fault("clocks of a relay and a reader jump", _clock_jumps),
    Fault("database connections killed", _connections_killed),
    Fault("table locked by a stranger", _foreign_lock),
    Fault("database read-only", _read_only),
    Fault("database out of connections", _out_of_connections),
    Fault("cache flushed", _cache_flushed),
    Fault("cache restored from an old dump", _cache_restored),
]
