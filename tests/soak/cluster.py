"""Servers, lines to them that can be made bad, and several of each service, kept running."""

import secrets
import signal
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from sqlalchemy import URL, make_url

from common.database import thread_engine
from devstack.process import Process
from devstack.servers import Server, free_port
from devstack.stack import Stack, throwaway_stack
from tests.faults.proxy import WHOLE, Proxy, proxy_to
from tests.fixtures.broker import broker_control
from tests.fixtures.clocks import Clock, find_library, right_clock
from tests.fixtures.schema import database_settings, migrate
from tests.fixtures.system import PASSWORD, SCOPES, USERNAME, System
from tests.waiting import eventually

RELAYS, READERS = 2, 2
_RESTART_SECONDS = 1.0


@dataclass
class Cluster:
    """One API, two relays and two readers over lines to three servers.

    Each can be armed in a folder of its name (tests/faults/launch.py); the second relay and the second reader
    go by `clock`. Whatever dies is started again, as `make up` does, unless it is `resting`. `crashes` has
    those that ended by themselves: neither killed by a fault nor with the 0 that a signal asks for.
    """

    stack: Stack
    lines: dict[str, Proxy]
    system: System
    processes: dict[str, Process]
    folder: Path
    clock: Clock
    resting: set[str] = field(default_factory=set)
    crashes: list[str] = field(default_factory=list)

    def server(self, name: str) -> Server:
        """`database`, `broker` or `cache`."""
        found: Server = getattr(self.stack, name)
        return found

    def broker_control(self, *words: str) -> None:
        """Run `rabbitmqctl` on the private node."""
        broker_control(self.stack, *words)

    def faults_folder(self, name: str) -> Path:
        """Where a process looks for what it is armed with."""
        return _faults_folder(self.folder, name)

    def supervise(self) -> None:
        """Start again what has died; belongs to the main thread, as the children's lives do."""
        for name, process in self.processes.items():
            if name in self.resting or process.running:
                continue
            if (code := process.exit_code()) not in {0, -signal.SIGKILL}:
                self.crashes.append(f"{name} ended with {code}")
            process.start()

    def ready(self) -> bool:
        """Whether every process is ready."""
        return all(
            System(dict(process.environment)).is_ready(name.split()[0])
            for name, process in self.processes.items()
        )

    def heal(self) -> None:
        """Every line whole, the clock right, every process awake and running."""
        for line in self.lines.values():
            line.set(WHOLE)
        for name in ("database", "broker", "cache"):
            for process in self.server(name).processes:
                process.signal(signal.SIGCONT)
        for process in self.processes.values():
            process.signal(signal.SIGCONT)
        self.clock.jump("+0")
        self.resting.clear()
        self.supervise()


def restart(server: Server) -> None:
    """Stop what is left of a server and start it."""
    server.stop()
    server.start()


@contextmanager
def cluster(folder: Path) -> Iterator[Cluster]:
    """All of it, ready; gone after the block, each service with exit code 0."""
    with ExitStack() as stack_of_things:
        stack = throwaway_stack(folder / "servers")
        stack.start()
        stack_of_things.callback(stack.stop)
        migrate(stack.database_url)
        lines = {
            server.name: stack_of_things.enter_context(proxy_to(server.port)) for server in stack.servers
        }
        environment = _environment(stack, lines, folder) | {"DATABASE_URL": _limited_url(stack, lines)}
        system = System(environment)
        scopes = [word for scope in SCOPES.split() for word in ("--scope", scope)]
        added = system.run("api", "user", "add", USERNAME, *scopes, "--password-stdin", text=PASSWORD + "\n")
        assert added.returncode == 0, added.stderr
        clock = right_clock(find_library(), folder)
        processes = dict(_processes(environment, folder, clock))
        system.services = {name: processes[f"{name} 1"] for name in ("api", "outbox_relay", "grpc_reader")}
        for process in processes.values():
            process.start()
            stack_of_things.callback(process.stop)
        found = Cluster(stack, lines, system, processes, folder, clock)
        eventually(found.ready, within=60)
        yield found
        for process in processes.values():
            process.signal(signal.SIGTERM)
        for name, process in processes.items():
            eventually(partial(_ended, process), within=20, because=f"{name} ends")
            assert process.exit_code() == 0, f"{name} ended with {process.exit_code()}"


def _ended(process: Process) -> bool:
    return not process.running


def _limited_url(stack: Stack, lines: dict[str, Proxy]) -> str:
    """The database for a user who, unlike the tests', a read-only server does not let write."""
    url = make_url(stack.database_url)
    name, password = f"app_{secrets.token_hex(4)}", secrets.token_hex(8)
    engine = thread_engine(database_settings(stack.database_url), autocommit=True)
    with engine.connect() as connection:
        connection.exec_driver_sql(f"CREATE USER {name} IDENTIFIED BY '{password}'")
        connection.exec_driver_sql(f"GRANT ALL ON {url.database}.* TO {name}")
    engine.dispose()
    return _led(url.set(username=name, password=password), lines["database"])


def _led(url: URL, line: Proxy) -> str:
    return url.set(port=line.port).render_as_string(hide_password=False)


def _environment(stack: Stack, lines: dict[str, Proxy], folder: Path) -> dict[str, str]:
    def led(server: Server) -> str:
        return _led(make_url(server.url), lines[server.name])

    api_url = f"http://127.0.0.1:{(api_port := free_port())}"
    return {
        "API_PORT": str(api_port),
        "RELAY_HEALTH_PORT": str(free_port()),
        "READER_HEALTH_PORT": str(free_port()),
        "GRPC_PORT": str(free_port()),
        "BROKER_URL": led(stack.broker),
        "CACHE_URL": led(stack.cache),
        "SIGNING_KEYS_DIR": str(folder / "keys"),
        "ACCESS_TOKEN_LIFETIME": "P1D",
        "JWKS_URL": f"{api_url}/.well-known/jwks.json",
        "API_URL": api_url,
        "DEMO_USERNAME": USERNAME,
        "DEMO_PASSWORD": PASSWORD,
        "PYTHONUNBUFFERED": "1",
    }


def _processes(environment: dict[str, str], folder: Path, clock: Clock) -> Iterator[tuple[str, Process]]:
    for module, count in (("api", 1), ("outbox_relay", RELAYS), ("grpc_reader", READERS)):
        for number in range(1, count + 1):
            name = f"{module} {number}"
            faults = _faults_folder(folder, name)
            faults.mkdir()
            own = environment | {"FAULTS_FOLDER": str(faults)}
            if number > 1:
                ports = ("RELAY_HEALTH_PORT", "READER_HEALTH_PORT", "GRPC_PORT")
                own |= clock.environment | {port: str(free_port()) for port in ports}
            command = [sys.executable, "-m", "tests.faults.launch", module, "serve"]
            yield name, Process(name, command, own, folder / f"{module}-{number}.log")


def _faults_folder(folder: Path, name: str) -> Path:
    return folder / f"faults of {name}"


def pause(seconds: float, supervise: Cluster) -> None:
    """Let time pass while the cluster is looked after."""
    end = time.monotonic() + seconds
    stopped = threading.Event()
    while (left := end - time.monotonic()) > 0:
        supervise.supervise()
        stopped.wait(min(left, 0.5))
