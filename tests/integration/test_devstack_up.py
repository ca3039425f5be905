"""`python -m devstack up` as a whole, in a copy of the code: its state is not that of this checkout."""

import contextlib
import fcntl
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

import httpx
import psutil
import pytest

from common.database import thread_engine
from devstack.servers import free_port
from devstack.stack import Stack
from tests.fixtures.schema import ROOT, database_settings, migrate, new_database
from tests.fixtures.servers import free_row_of_ports
from tests.waiting import eventually

CODE = ("alembic", "api", "common", "devstack", "grpc_reader", "outbox_relay", "protos", "setup.cfg")
PORTS = ("API_PORT", "RELAY_HEALTH_PORT", "READER_HEALTH_PORT", "GRPC_PORT", "DATABASE_PORT", "CACHE_PORT")
# Longer than any of its processes may take to end, together.
GRACE_SECONDS = 60
pytestmark = pytest.mark.timeout(300)
DUNE = {"title": "Dune", "author": "Frank Herbert", "publication_date": "1965-08-01"}


NOBODY = {
    "DATABASE_URL": "mysql://user:password@127.0.0.1:1/none",
    "BROKER_URL": "amqp://127.0.0.1:1//",
    "CACHE_URL": "redis://127.0.0.1:1/0",
}


@dataclass
class Checkout:
    """A copy of the code, and `up` in it, one run after another."""

    folder: Path
    environment: dict[str, str]
    runs: list[subprocess.Popen[bytes]] = field(default_factory=list)

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()

    @property
    def demo_env(self) -> Path:
        return self.folder / ".local" / "demo.env"

    def up(self, output: int | None = None) -> None:
        with (self.folder / "log").open("wb") as log:
            run = subprocess.Popen(
                [sys.executable, "-m", "devstack", "up"],
                cwd=self.folder,
                env=self.environment,
                stdout=log if output is None else output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self.runs.append(run)

    def says(self, text: str, within: float = 60) -> None:
        eventually(lambda: text in self.log or self.runs[-1].poll() is not None, within=within, because=text)
        assert text in self.log, self.log

    def child_but(self, words: str, pid: int) -> bool:
        """Whether there is another child with these words than the one with that id."""
        return self.child(words) not in {0, pid}

    def child(self, words: str) -> int:
        """The id of the direct child with these words in its command line; 0 while there is none."""
        for child in psutil.Process(self.runs[-1].pid).children():
            with contextlib.suppress(psutil.Error):  # it has just ended
                if words in " ".join(child.cmdline()):
                    return int(child.pid)
        return 0

    @contextlib.contextmanager
    def client(self) -> Iterator[httpx.Client]:
        username, password = (line.partition("=")[2] for line in self.demo_env.read_text().split())
        form = {"grant_type": "password", "username": username, "password": password}
        with httpx.Client(base_url=f"http://127.0.0.1:{self.environment['API_PORT']}", timeout=30) as client:
            token = client.post("/v1/auth/token", data=form).json()["access_token"]
            client.headers["Authorization"] = f"Bearer {token}"
            yield client

    def ends(self, *signals: int, to: Callable[[int, int], None] = os.kill) -> None:
        """With 0 within the grace period, and everything that it had started with it."""
        everything = psutil.Process(self.runs[-1].pid).children(recursive=True)
        for number in signals:
            to(self.runs[-1].pid, number)
        assert self.runs[-1].wait(GRACE_SECONDS) == 0, self.log
        assert self.log.endswith("Stopped.\n")
        assert psutil.wait_procs(everything, timeout=5)[1] == []


@pytest.fixture
def checkout(tmp_path: Path) -> Iterator[Checkout]:
    for name in CODE:
        source = ROOT / name
        (shutil.copytree if source.is_dir() else shutil.copy)(source, tmp_path / name)
    environment = {name: value for name, value in os.environ.items() if not name.startswith("COV")}
    for variable in ("DATABASE_URL", "BROKER_URL", "CACHE_URL"):
        environment.pop(variable, None)
    environment |= {port: str(free_port()) for port in PORTS} | {"BROKER_PORT": str(free_row_of_ports())}
    made = Checkout(tmp_path, environment)
    yield made
    for run in made.runs:
        if run.poll() is None:
            run.terminate()
            run.wait(GRACE_SECONDS)


def test_up_serves_keeps_alive_what_is_killed_ends_cleanly_and_keeps_its_data(checkout: Checkout) -> None:
    checkout.up()
    checkout.says("The bookstore is ready.")
    assert stat.S_IMODE(checkout.demo_env.stat().st_mode) == 0o600
    login = checkout.demo_env.read_text()
    with checkout.client() as client:
        path = client.post("/v1/books", json=DUNE).headers["location"]

        # Not the broker: RabbitMQ 3.10 may elect no leader for a queue made a second before the kill.
        words = ("-m api", "-m outbox_relay", "-m grpc_reader", "redis-server", "--datadir")
        killed = {word: checkout.child(word) for word in words}
        assert all(killed.values()), killed
        for pid in killed.values():
            os.kill(pid, signal.SIGKILL)
        for word, pid in killed.items():
            eventually(partial(checkout.child_but, word, pid), within=60, because=f"{word} is started again")
        eventually(lambda: answers(client, path))
        added = client.post("/v1/books", json=DUNE).json()["id"]
    checkout.says("api ended (exit code -9), starts again in 0.5 s")
    checkout.says(f"event delivered type=bookstore.book.created.v1 book_id={added} ")

    second = subprocess.run(
        [sys.executable, "-m", "devstack", "up"],
        cwd=checkout.folder,
        env=checkout.environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (second.returncode, second.stdout) == (1, "")
    assert second.stderr == "`make up` runs in this checkout already: stop that one first.\n"

    checkout.ends(signal.SIGTERM, signal.SIGTERM)

    checkout.up()
    checkout.says("The bookstore is ready.")
    assert checkout.demo_env.read_text() == login
    with checkout.client() as client:
        assert client.get(path).json()["title"] == "Dune"
    checkout.ends(signal.SIGINT)


def answers(client: httpx.Client, path: str) -> bool:
    try:
        return client.get(path).status_code == 200
    except httpx.TransportError:
        return False


@pytest.mark.parametrize("moment", ["  cache ", "  user "])
def test_up_that_is_interrupted_while_it_starts_ends_with_0_as_well(
    checkout: Checkout, stack: Stack, moment: str
) -> None:
    with new_database(stack) as database_url:
        checkout.environment |= {**stack.environment, "DATABASE_URL": database_url}
        checkout.up()
        checkout.says(moment)
        checkout.ends(signal.SIGINT, to=os.killpg)  # as Ctrl-C does it


def test_up_that_is_interrupted_while_its_terminal_is_paused_ends_when_that_goes_on(
    checkout: Checkout,
) -> None:
    checkout.environment |= NOBODY
    reading, writing = os.pipe()
    os.write(writing, b"x" * fcntl.fcntl(writing, fcntl.F_SETPIPE_SZ, 4096))
    checkout.up(writing)
    os.close(writing)
    up = checkout.runs[-1]
    place = Path(f"/proc/{up.pid}/wchan")
    try:
        eventually(lambda: "pipe_write" in place.read_text(), because="it waits to say its first line")
        up.send_signal(signal.SIGTERM)
        up.send_signal(signal.SIGINT)
        with os.fdopen(reading, "rb") as terminal:
            terminal.read(4096)
            assert up.wait(GRACE_SECONDS) == 0
            said = terminal.read().decode()
    finally:
        up.kill()
    assert said.startswith("Starting the bookstore.\n")
    assert said.endswith("\nStopping ...\nStopped.\n")


def test_up_that_is_interrupted_while_it_makes_its_database_ends_with_0_and_can_be_started_again(
    checkout: Checkout, stack: Stack
) -> None:
    checkout.environment |= {**stack.environment, "DATABASE_URL": ""}
    checkout.up()
    eventually(lambda: checkout.child("--datadir="))
    checkout.ends(signal.SIGINT, to=os.killpg)
    assert "Traceback" not in checkout.log
    checkout.up()
    checkout.says("  database ")
    checkout.ends(signal.SIGINT)


def test_schema_of_newer_code_is_one_sentence_that_says_what_to_do(checkout: Checkout, stack: Stack) -> None:
    with new_database(stack) as database_url:
        migrate(database_url)
        engine = thread_engine(database_settings(database_url))
        with engine.begin() as connection:
            connection.exec_driver_sql("UPDATE alembic_version SET version_num = '9999'")
        engine.dispose()
        checkout.environment |= {**stack.environment, "DATABASE_URL": database_url}
        checkout.up()
        assert checkout.runs[-1].wait(60) == 1
    assert checkout.log.splitlines()[-1] == (
        "The database has a schema of newer code (9999): check that code out, or set DATABASE_URL to another"
        " database, or remove .local/database to begin anew with a private one."
    )


def test_up_that_waits_for_an_external_server_can_be_interrupted(checkout: Checkout, stack: Stack) -> None:
    nobody = f"redis://127.0.0.1:{free_port()}/0"
    with new_database(stack) as database_url:
        checkout.environment |= {**stack.environment, "DATABASE_URL": database_url, "CACHE_URL": nobody}
        checkout.up()
        checkout.says("  broker ")
        checkout.ends(signal.SIGTERM)


def test_service_that_is_killed_while_up_starts_is_started_again(checkout: Checkout, stack: Stack) -> None:
    with new_database(stack) as database_url:
        checkout.environment |= {**stack.environment, "DATABASE_URL": database_url}
        checkout.up()
        os.kill(eventually(lambda: checkout.child("-m api serve"), within=60), signal.SIGKILL)
        checkout.says("The bookstore is ready.")
        assert "api ended (exit code -9), starts again in 0.5 s" in checkout.log
        checkout.ends(signal.SIGTERM)


def test_service_that_cannot_start_ends_up_with_one_sentence_that_says_why(
    checkout: Checkout, stack: Stack
) -> None:
    with new_database(stack) as database_url:
        checkout.environment |= {**stack.environment, "DATABASE_URL": database_url, "RELAY_WINDOW": "0"}
        checkout.up()
        assert checkout.runs[-1].wait(50) == 1
    sentence = r"^The service relay ended 3 times in a row \(exit code 1\): .*\(RELAY_WINDOW: .*\.$"
    assert re.search(sentence, checkout.log, re.MULTILINE), checkout.log


def test_up_listens_on_this_machine_alone_whatever_bind_host_says(checkout: Checkout, stack: Stack) -> None:
    with new_database(stack) as database_url:
        checkout.environment |= {**stack.environment, "DATABASE_URL": database_url, "BIND_HOST": "0.0.0.0"}  # noqa: S104
        checkout.up()
        checkout.says("The bookstore is ready.")
        everything = psutil.Process(checkout.runs[-1].pid).children(recursive=True)
        listening = {
            # gRPC listens for both versions of IP.
            (connection.laddr.ip.removeprefix("::ffff:"), str(connection.laddr.port))
            for process in everything
            for connection in process.net_connections("tcp")
            if connection.status == psutil.CONN_LISTEN
        }
        assert listening == {("127.0.0.1", checkout.environment[port]) for port in PORTS[:4]}
        checkout.ends(signal.SIGTERM)


def test_demo_user_with_another_password_keeps_it_and_no_login_is_shown_that_does_not_work(
    checkout: Checkout, stack: Stack
) -> None:
    checkout.demo_env.parent.mkdir()
    checkout.demo_env.write_text("DEMO_USERNAME=demo\nDEMO_PASSWORD=that of another database\n")
    with new_database(stack) as database_url:
        migrate(database_url)
        checkout.environment |= {**stack.environment, "DATABASE_URL": database_url}
        subprocess.run(
            [sys.executable, "-m", "api", "user", "add", "demo", "--password-stdin"],
            cwd=checkout.folder,
            env=checkout.environment,
            input=b"theirs-and-long-enough\n",
            check=True,
        )
        checkout.up()
        checkout.says("The bookstore is ready.")
        state = checkout.demo_env.parent
        assert json.loads((state / "passwords.json").read_text())["demo"] not in checkout.log
        assert "The user demo of this database has another password than this checkout's:\n" in checkout.log
        assert "DEMO_USERNAME=''\nDEMO_PASSWORD=''\n" in (state / "up.env").read_text()
        assert not checkout.demo_env.exists()

        checkout.demo_env.write_text("DEMO_USERNAME=demo\nDEMO_PASSWORD=theirs-and-long-enough\n")
        with checkout.client() as client:
            assert client.get("/v1/books").status_code == 200
        checkout.ends(signal.SIGTERM)
