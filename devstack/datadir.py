"""The data folder of the private database, and the program that it is for."""

import os
import shutil
from pathlib import Path

from devstack.packages import install
from devstack.programs import complaint, run
from devstack.servers import SetupError

# Servers are not in the path of users who are not root.
PATH = os.environ.get("PATH", "") + ":/usr/sbin:/usr/local/sbin:/sbin"


def serving_command(home: Path, root: str) -> list[str]:
    """How the server of `home/data` is called; SetupError where it is not there and cannot be made.

    Data that is there is served by the program that made it. New data is made by a mysqld that may run from
    our folder, else by mariadbd, which is installed if it is missing. With `root` it is the mysqld of that
    root directory, run by chroot.
    """
    data = home / "data"
    mysqld = _mysqld(root)
    refusal = _make_with_mysql(mysqld, root, home) if mysqld and not data.exists() else ""
    if refusal and root:
        raise SetupError(f"The database's folder {home} cannot be made: {refusal}")
    if (data / "mysql.ibd").exists():
        if mysqld is None:
            raise SetupError(
                f"MySQL made {data}, and is gone: install it, or remove that folder to begin anew."
            )
        # Its packages put files into a folder that a private instance does not have.
        return [*_chroot(root), mysqld, "--no-defaults", "--mysqlx=OFF", "--secure-file-priv=NULL"]
    mariadbd = shutil.which("mariadbd", path=PATH)
    if mariadbd is None:
        mariadbd = _install_mariadb(f"{mysqld} cannot run from {home} ({refusal})" if refusal else "")
    if not data.exists() and (refusal := _make_with_mariadb(home)):
        raise SetupError(f"The database's folder {home} cannot be made: {refusal}")
    return [mariadbd, "--no-defaults"]


def inside(root: str, home: Path) -> str:
    """The path of `home` for a program whose root directory is `root`."""
    return f"/{home.relative_to(root)}" if root else str(home)


def as_root() -> list[str]:
    """Both programs refuse to run as root unless told so; files of our own folder need no other owner."""
    return ["--user=root"] if os.geteuid() == 0 else []


def version(command: list[str]) -> str:
    """Name and version of the server program that the command calls."""
    text = run([*command, "--version"]).stdout
    number = (text.partition("Ver ")[2].split() or ["?"])[0].partition("-")[0]
    return f"MariaDB {number}" if "MariaDB" in text else f"MySQL {number}"


def _chroot(root: str) -> list[str]:
    return ["chroot", root] if root else []


def _mysqld(root: str) -> str | None:
    if root:
        return "/usr/sbin/mysqld"
    found = shutil.which("mysqld", path=PATH)
    # MariaDB's packages call theirs mysqld, too.
    return found if found and "MariaDB" not in version([found]) else None


def _install_mariadb(reason: str) -> str:
    """Its path; `reason` is why the mysqld that is there does not do."""
    try:
        install(["mariadb-server"])
    except SetupError as error:
        if not reason:
            raise
        # What else it says may be advice to install it by hand, in place of the server that is there.
        raise SetupError(
            f"{reason}, and MariaDB cannot be installed beside it: set DATABASE_URL to a database of that"
            " server, or run `docker compose up --build --wait`."
        ) from error
    mariadbd = shutil.which("mariadbd", path=PATH)
    if mariadbd is None:
        raise SetupError("Neither mysqld nor mariadbd can be run here.")
    return mariadbd


def _make_with_mysql(mysqld: str, root: str, home: Path) -> str:
    """Why it cannot, which may be that AppArmor forbids it to run from our folder; or nothing."""
    command = [*_chroot(root), mysqld, "--no-defaults", "--initialize-insecure", "--secure-file-priv=NULL"]
    place = inside(root, home)
    return _make(home, [*command, f"--datadir={place}/data.new", f"--tmpdir={place}", *as_root()])


def _make_with_mariadb(home: Path) -> str:
    """Why it cannot, or nothing."""
    command = ["mariadb-install-db", "--no-defaults", f"--datadir={home}/data.new", "--skip-test-db"]
    # In /tmp, one that starts at the same moment would delete our temporary files.
    command.append(f"--tmpdir={home}")
    # `normal` makes superusers of host names too, which a server that resolves none cannot alter.
    return _make(home, [*command, "--auth-root-authentication-method=socket", *as_root()])


def _make(home: Path, command: list[str]) -> str:
    """Have the command make `data.new`, which gets its name when it is whole; else its complaint."""
    fresh = home / "data.new"
    shutil.rmtree(fresh, ignore_errors=True)
    done = run(command)
    if done.returncode != 0:
        shutil.rmtree(fresh, ignore_errors=True)
        return complaint(done)
    fresh.rename(home / "data")
    return ""
