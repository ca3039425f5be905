import os
import shutil

import pymysql

from devstack.datadir import as_root, inside, serving_command, version
from devstack.folders import Folders, write_private
from devstack.homes import home_of
from devstack.process import Process
from devstack.servers import Server, TlsFiles

USER, NAME = "bookstore", "bookstore"
# Under this name the superuser's password stands among the folder's.
SUPERUSER = "database-root"


def database_server(
    folders: Folders, port: int, *, for_tests: bool = False, tls: TlsFiles | None = None
) -> Server:
    """A private MySQL, where the machine has one that may run from a folder of ours, else a private MariaDB.

    `for_tests` gives the user all rights: to make databases and users, and to kill connections. With the
    environment variable DEVSTACK_MYSQLD_ROOT the mysqld of that root directory is run, by chroot.
    """
    password = folders.password("database")
    root = os.environ.get("DEVSTACK_MYSQLD_ROOT", "")
    home = home_of(folders, root)
    command = serving_command(home, root)
    title = version(command[: command.index("--no-defaults")])
    if for_tests and not tls and "--mysqlx=OFF" in command:
        # They cut connections at a word that they see on the wire.
        command.append("--tls-version=")
    write_private(
        home / "setup.sql",
        _setup_sql(password, folders.password(SUPERUSER), for_tests=for_tests)
        + (f"ALTER USER '{USER}'@'%' REQUIRE X509;\n" if tls else ""),
    )
    place = inside(root, home)
    (home / "scratch").mkdir(exist_ok=True)
    command += [
        f"--datadir={place}/data",
        # A server that starts removes what it takes for left-overs in /tmp, those of others that run, too.
        f"--tmpdir={place}/scratch",
        # Below the folder of the data, which the server enters: a whole path longer than 107 bytes is none.
        "--socket=socket",
        f"--pid-file={place}/pid",
        f"--init-file={place}/setup.sql",
        f"--port={port}",
        "--bind-address=127.0.0.1",
        "--skip-name-resolve",
        "--character-set-server=utf8mb4",
        "--collation-server=utf8mb4_unicode_520_ci",
        "--innodb-flush-log-at-trx-commit=1",
        "--max-connections=300",
        *as_root(),
    ]
    if tls:
        for option, file in (("ssl-ca", tls.ca), ("ssl-cert", tls.certificate), ("ssl-key", tls.key)):
            shutil.copyfile(file, home / option)  # a server in a root directory sees no others
            command.append(f"--{option}={place}/{option}")
        command.append("--require-secure-transport=ON")
    process = Process("database", command, log=folders.log("database"), grace_seconds=30)

    def probe() -> None:
        pymysql.connect(
            host="127.0.0.1",
            port=port,
            user=USER,
            password=password,
            database=NAME,
            connect_timeout=2,
            ssl=tls.context() if tls else None,
        ).close()

    url = f"mysql://{USER}:{password}@127.0.0.1:{port}/{NAME}"
    return Server("database", title, port, url, (process,), probe)


def _setup_sql(password: str, root_password: str, *, for_tests: bool) -> str:
    """Statements that leave the same state however often they run; one line each, as --init-file wants.

    The server runs them before it takes the first connection.
    """
    grant = f"GRANT ALL ON {NAME}.* TO '{USER}'@'%';"
    if for_tests:
        grant = f"GRANT ALL ON *.* TO '{USER}'@'%' WITH GRANT OPTION;"
    hosts = ("localhost", os.uname().nodename)
    # A folder that is new has the first alone; one from an older MariaDB's settings may have the others.
    root_hosts = ("localhost", "127.0.0.1", "::1")
    return "\n".join(
        [
            *(
                f"ALTER USER IF EXISTS 'root'@'{host}' IDENTIFIED BY '{root_password}';"
                for host in root_hosts
            ),
            *(f"DROP USER IF EXISTS ''@'{host}';" for host in hosts),
            f"CREATE DATABASE IF NOT EXISTS {NAME} CHARACTER SET utf8mb4 COLLATE utf8mb4_unicode_520_ci;",
            f"CREATE USER IF NOT EXISTS '{USER}'@'%' IDENTIFIED BY '{password}';",
            grant,
            "",
        ]
    )
