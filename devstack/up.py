import fcntl
import json
import os
import re
import signal
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import FrameType
from typing import IO

from devstack import demo
from devstack.console import say, step
from devstack.folders import Folders, write_private
from devstack.process import Process
from devstack.programs import complaint
from devstack.servers import SetupError, await_answer, port_from_environment
from devstack.stack import ROOT, STATE, Stack, local_stack
from devstack.supervisor import Supervisor

_SCOPES = ("books:read", "books:write", "outbox:admin")
_ALREADY_THERE = 3
# What ends so often before it is ready will not get well by being started again.
_MOST_ENDS = 3
# Whatever the user's BIND_HOST says: nothing that `make up` starts is reached from other machines.
# So it needs no TLS of its own; that of external servers is the user's.
_NO_TLS = (
    *("API_TLS_CERTIFICATE", "API_TLS_KEY", "API_TLS_CLIENT_CA"),
    *("GRPC_TLS_CERTIFICATE", "GRPC_TLS_KEY", "GRPC_TLS_CLIENT_CA"),
    *("API_CLIENT_TLS_CA", "API_CLIENT_TLS_CERTIFICATE", "API_CLIENT_TLS_KEY"),
)
_OF_SERVICES = {"BIND_HOST": "127.0.0.1", "PYTHONUNBUFFERED": "1", **dict.fromkeys(_NO_TLS, "")}


class Interrupted(Exception):  # noqa: N818  a request, not an error
    """SIGINT or SIGTERM came."""


@dataclass(frozen=True)
class Ports:
    """Where the services listen."""

    api: int
    relay: int
    reader: int
    grpc: int

    @classmethod
    def from_environment(cls) -> "Ports":
        """The contract's ports, moved by its variables; SetupError when one is taken or is none."""
        return cls(
            api=port_from_environment("API_PORT", 8000),
            relay=port_from_environment("RELAY_HEALTH_PORT", 8001),
            reader=port_from_environment("READER_HEALTH_PORT", 8002),
            grpc=port_from_environment("GRPC_PORT", 50051),
        )


class Stop:
    """A wish to stop, which SIGINT and SIGTERM express; a second one changes nothing."""

    def __init__(self) -> None:
        self._asked = False
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, self._on_signal)

    def heed(self) -> None:
        """Raise Interrupted if the wish was expressed."""
        if self._asked:
            raise Interrupted

    def _on_signal(self, _: int, __: FrameType | None) -> None:
        # No lock, so no printing and no Event: whoever is interrupted may hold it, and would for ever.
        self._asked = True


def up() -> int:
    """Bring up everything and keep it up until SIGINT or SIGTERM; 0 when all of it was stopped.

    SetupError, once all of it was stopped, when something cannot be brought up.
    """
    stop = Stop()
    supervisor = Supervisor()
    try:
        lock = _only_one()
        _bring_up(supervisor, stop.heed)
        while True:
            stop.heed()
            supervisor.look()
            time.sleep(0.2)
    except Interrupted:
        say("Stopping ...")
    finally:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        supervisor.stop()
    lock.close()
    say("Stopped.")
    return 0


def _only_one() -> IO[str]:
    path = Folders(STATE).folder() / "up.lock"
    lock = path.open("w")
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        lock.close()
        raise SetupError("`make up` runs in this checkout already: stop that one first.") from None
    return lock


def _bring_up(supervisor: Supervisor, heed: Callable[[], None]) -> None:
    def heed_all() -> None:
        heed()
        supervisor.look(_MOST_ENDS)

    say("Starting the bookstore.")
    ports = Ports.from_environment()
    with step("packages") as current:
        stack = local_stack()
        current.detail = "database, broker and cache are there"
    for server in stack.servers:
        heed()
        with step(server.name) as current:
            supervisor.watch(server)
            server.start(heed)
            current.detail = (
                f"{server.title} on 127.0.0.1:{server.port}" if server.processes else server.title
            )
    environment = _environment(stack, ports)
    heed()
    with step("schema") as current:
        _migrate(environment)
        current.detail = "migrated"
    heed()
    with step("user") as current:
        password = Folders(STATE).password(demo.USERNAME)
        added = _add_demo_user(environment, password)
        current.detail = f"{demo.USERNAME} is there"
    services = {
        "api": ("api", ports.api),
        "relay": ("outbox_relay", ports.relay),
        "reader": ("grpc_reader", ports.reader),
    }
    with step("services") as current:
        for name, (module, _) in services.items():
            command = [sys.executable, "-m", module, "serve"]
            supervisor.start(Process(name, command, {**environment, **_OF_SERVICES}))
        for name, (_, port) in services.items():
            await_service(name, port, heed_all)
        current.detail = "api, relay and reader are ready"
    if not added and not demo.logs_in(ports.api, password, heed_all):
        password = ""
    demo.write_login(password)
    _write_up_env(environment, ports, password)
    _banner(stack, ports, password)


def _environment(stack: Stack, ports: Ports) -> dict[str, str]:
    return {
        **stack.environment,
        "API_PORT": str(ports.api),
        "RELAY_HEALTH_PORT": str(ports.relay),
        "READER_HEALTH_PORT": str(ports.reader),
        "GRPC_PORT": str(ports.grpc),
        "SIGNING_KEYS_DIR": str(STATE / "keys"),
        "JWKS_URL": f"http://127.0.0.1:{ports.api}/.well-known/jwks.json",
        "GRPC_REFLECTION": os.environ.get("GRPC_REFLECTION", "1"),
    }


def _run(arguments: list[str], environment: dict[str, str], text: str | None = None) -> int:
    done = subprocess.run(
        [sys.executable, *arguments],
        cwd=ROOT,
        env={**os.environ, **environment},
        input=text,
        capture_output=True,
        text=True,
        check=False,
        # Ctrl-C is for us: a migration or user that is half made would be a failure, not an interruption.
        start_new_session=True,
    )
    if done.returncode not in (0, _ALREADY_THERE):
        raise SetupError(f"`python {' '.join(arguments)}` failed: {complaint(done)}")
    return done.returncode


def _migrate(environment: dict[str, str]) -> None:
    try:
        _run(["-m", "alembic", "-c", "setup.cfg", "upgrade", "head"], environment)
    except SetupError as error:
        found = re.search(r"Can't locate revision identified by '(\w+)'", str(error))
        if found is None:
            raise
        raise SetupError(
            f"The database has a schema of newer code ({found[1]}): check that code out, or set DATABASE_URL"
            " to another database, or remove .local/database to begin anew with a private one."
        ) from error


def _add_demo_user(environment: dict[str, str], password: str) -> bool:
    """Whether the user is new; one who is there already keeps the password that they have."""
    scopes = [word for scope in _SCOPES for word in ("--scope", scope)]
    command = ["-m", "api", "user", "add", demo.USERNAME, *scopes, "--password-stdin"]
    return _run(command, environment, password + "\n") != _ALREADY_THERE


def _write_up_env(environment: dict[str, str], ports: Ports, password: str) -> None:
    everything = {
        **environment,
        "API_URL": f"http://127.0.0.1:{ports.api}",
        # Empty, they take the place of those that an earlier run has put into the terminal.
        "DEMO_USERNAME": demo.USERNAME if password else "",
        "DEMO_PASSWORD": password,
    }
    write_private(STATE / "up.env", "".join(f"{name}='{value}'\n" for name, value in everything.items()))


def await_service(name: str, port: int, heed: Callable[[], None]) -> None:
    """Return once the service is ready; SetupError when it takes too long, and what `heed` raises."""
    advice = f"; what it said stands above, behind `{name:<6} |`"
    await_answer(f"service {name}", partial(_ask_ready, port), heed=heed, advice=advice)


def _ask_ready(port: int) -> None:
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=3) as answer:
            json.load(answer)
    except urllib.error.HTTPError as error:
        raise SetupError(f"not ready: {error.read().decode(errors='replace')}") from error


def _banner(stack: Stack, ports: Ports, password: str) -> None:
    rule = "-" * 72
    say(
        f"{rule}\n"
        f"The bookstore is ready.   {stack.database.title}, {stack.broker.title}, {stack.cache.title}\n\n"
        f"  REST        http://127.0.0.1:{ports.api}/v1/books\n"
        f"  Swagger UI  http://127.0.0.1:{ports.api}/docs\n"
        f"  gRPC        127.0.0.1:{ports.grpc}\n"
        f"  health      http://127.0.0.1:{ports.relay}/readyz (relay)"
        f"  http://127.0.0.1:{ports.reader}/readyz (reader)\n"
        f"  login       {demo.shown(password)}\n\n"
        f"  Ctrl-C stops everything. The servers' logs are in .local/log.\n"
        f"{rule}"
    )
