"""The private database as it is made: who gets in, and where it keeps what."""

import os
import re
import resource
import stat
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pymysql
import pytest

import devstack.datadir
from devstack.database import SUPERUSER, database_server
from devstack.folders import Folders
from devstack.servers import Server, SetupError, free_port

ACCESS_DENIED = 1045
# The path of a socket must not be longer than 107 bytes.
DEEP = "a-checkout-in-a-folder-with-a-very-long-name/" * 3


@dataclass(frozen=True)
class Private:
    server: Server
    folders: Folders

    def option(self, name: str) -> str:
        """As the server's command line has it."""
        [value] = [
            word.partition("=")[2]
            for word in self.server.processes[0].command
            if word.startswith(f"--{name}=")
        ]
        return value

    @property
    def home(self) -> Path:
        """The folder that the server keeps everything in, seen from outside of a chroot."""
        inside = Path(self.option("datadir")).parent
        return Path(os.environ.get("DEVSTACK_MYSQLD_ROOT", "/"), inside.relative_to("/"))

    def user(self, password: str, *, unix_socket: str | None = None) -> str:
        """The account of a superuser with this password."""
        port = self.server.port
        with closing(
            pymysql.connect(
                host="127.0.0.1", port=port, unix_socket=unix_socket, user="root", password=password
            )
        ) as connection:
            cursor = connection.cursor()
            cursor.execute("SELECT CURRENT_USER()")
            [[name]] = cursor.fetchall()
            return str(name)


@pytest.fixture(scope="module")
def private(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Private]:
    folders = Folders(tmp_path_factory.mktemp("private") / DEEP)
    server = database_server(folders, free_port())
    server.start()
    yield Private(server, folders)
    server.stop()


def test_superuser_has_a_password_on_tcp(private: Private) -> None:
    with pytest.raises(pymysql.err.OperationalError) as refused:
        private.user("")
    assert refused.value.args[0] == ACCESS_DENIED


def test_superuser_has_a_password_on_the_socket(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(private.home / "data")
    with pytest.raises(pymysql.err.OperationalError) as refused:
        private.user("", unix_socket="socket")
    assert refused.value.args[0] == ACCESS_DENIED
    assert private.user(private.folders.password(SUPERUSER), unix_socket="socket") == "root@localhost"


def test_every_superuser_has_a_password(private: Private, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(private.home / "data")
    password = private.folders.password(SUPERUSER)
    with closing(pymysql.connect(user="root", password=password, unix_socket="socket")) as connection:
        cursor = connection.cursor()
        cursor.execute(
            "SELECT CONCAT(user, '@', host) FROM mysql.user WHERE authentication_string = '' OR user NOT IN"
            " ('root', 'bookstore', 'mysql.sys', 'mysql.session', 'mysql.infoschema', 'mariadb.sys')"
        )
        without = {account for (account,) in cursor.fetchall()}
    # An account of MariaDB's own, which is locked.
    assert without <= {"mariadb.sys@localhost"}


def test_what_sets_the_passwords_is_for_its_owner_alone(private: Private) -> None:
    assert stat.S_IMODE((private.home / "setup.sql").stat().st_mode) == 0o600


def test_socket_lies_in_the_folder_however_deep_that_is(private: Private) -> None:
    assert private.option("socket") == "socket"
    assert (private.home / "data" / "socket").is_socket()


def test_temporary_files_lie_in_the_folder_and_not_among_those_of_other_servers(private: Private) -> None:
    scratch = Path(private.option("tmpdir"))
    assert scratch.parent == Path(private.option("datadir")).parent
    assert (private.home / scratch.name).is_dir()


def test_passwords_stay_over_a_restart(private: Private) -> None:
    private.server.stop()
    private.server.start()
    with pytest.raises(pymysql.err.OperationalError):
        private.user("")
    private.server.probe()


@contextmanager
def no_file_longer_than(size: int) -> Iterator[None]:
    """For all that is started in the block: to a server it is like a full disk."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_folder_that_cannot_be_filled_is_one_sentence_and_is_not_taken_for_a_whole_one(
    tmp_path: Path,
) -> None:
    folders = Folders(tmp_path)
    with no_file_longer_than(1_000_000), pytest.raises(SetupError) as error:
        database_server(folders, free_port())
    assert re.fullmatch(r"The database's folder \S+ cannot be made: .*\w.*", str(error.value))
    assert not list(tmp_path.rglob("mysql"))
    server = database_server(folders, free_port())
    try:
        server.start()
    finally:
        server.stop()


def test_folder_is_made_with_temporary_files_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two that were made at once, the one's start removed those of the other from /tmp."""
    monkeypatch.setenv("TMPDIR", "/nonexistent")
    home = Private(database_server(Folders(tmp_path), free_port()), Folders(tmp_path)).home
    assert (home / "data").is_dir()


def test_folder_that_was_left_half_made_is_made_anew(tmp_path: Path) -> None:
    first = database_server(Folders(tmp_path), free_port())
    home = Private(first, Folders(tmp_path)).home
    (home / "data").rename(home / "data.new")
    for file in (home / "data.new").glob("ib*"):
        file.unlink()
    second = database_server(Folders(tmp_path), free_port())
    try:
        second.start()
    finally:
        second.stop()
    assert not (home / "data.new").exists()


def test_data_of_mysql_is_not_given_to_mariadb(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("DEVSTACK_MYSQLD_ROOT", raising=False)
    monkeypatch.setattr(devstack.datadir, "PATH", str(tmp_path))
    data = Folders(tmp_path).folder("database", "data")
    (data / "mysql.ibd").touch()
    with pytest.raises(SetupError, match=rf"^MySQL made {data}, and is gone: install it, or remove .*\.$"):
        database_server(Folders(tmp_path), free_port())
