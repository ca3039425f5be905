"""A mysqld that may not run from our folder, as AppArmor has it on Ubuntu. apt is a script of the test."""

import os
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import devstack.datadir
import devstack.packages
from devstack.database import database_server
from devstack.folders import Folders
from devstack.packages import install_missing
from devstack.servers import SetupError, free_port

FORBIDDEN = (
    "mysqld: Can't change dir to '/home/me/.local/database/data.new/' (OS errno 13 - Permission denied)"
)
MYSQLD = f"""#!/bin/sh
case "$*" in
*--version*) echo "/usr/sbin/mysqld  Ver 8.0.40-0ubuntu0.24.04.1 for Linux on x86_64 ((Ubuntu))" ;;
*) echo "{FORBIDDEN}" >&2; exit 1 ;;
esac
"""
# Debian's MariaDB takes the place of another server.
WOULD_REMOVE = """case "$*" in
*--no-remove*) echo "E: Packages need to be removed but remove is disabled." >&2; exit 100 ;;
esac"""

Ubuntu = Callable[..., Path]


@pytest.fixture
def ubuntu(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Ubuntu:
    """A machine with that mysqld; gives back the file that apt's calls are noted in."""
    real = {
        name: shutil.which(name, path=devstack.datadir.PATH) for name in ("mariadbd", "mariadb-install-db")
    }
    folder, notes = tmp_path / "bin", tmp_path / "notes"
    folder.mkdir()

    def script(name: str, text: str) -> None:
        (folder / name).write_text(text)
        (folder / name).chmod(0o755)

    def make(apt: str, *, root: bool = True) -> Path:
        if not real["mariadbd"]:
            pytest.skip("there is no MariaDB here, which apt would install")
        links = " && ".join(f"ln -s {path} {folder}/{name}" for name, path in real.items())
        script("mysqld", MYSQLD)
        script("apt-get", f"#!/bin/sh\necho apt-get $* >>{notes}\n{apt}\n{links}\n")
        monkeypatch.delenv("DEVSTACK_MYSQLD_ROOT", raising=False)
        monkeypatch.setattr(devstack.datadir, "PATH", str(folder))
        monkeypatch.setattr(devstack.packages, "_PATH", str(folder))
        monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
        if not root:
            monkeypatch.setattr(devstack.packages, "_privilege", no_right)
        return notes

    return make


def no_right(missing: list[str]) -> list[str]:
    raise SetupError(f"These packages are missing: {missing[0]}. Install them.")


def test_mariadb_is_installed_only_after_mysqld_has_failed_and_serves(ubuntu: Ubuntu, tmp_path: Path) -> None:
    calls = ubuntu("")
    assert install_missing(("mariadb-server",)) == []
    assert not calls.exists()
    server = database_server(Folders(tmp_path / "state"), free_port())
    assert server.title.startswith("MariaDB ")
    [call] = calls.read_text().splitlines()
    assert call == "apt-get install -y -q --no-install-recommends --no-remove mariadb-server"
    try:
        server.start()
    finally:
        server.stop()
    again = database_server(Folders(tmp_path / "state"), free_port())
    assert again.title == server.title
    assert len(calls.read_text().splitlines()) == 1


@pytest.mark.parametrize(
    "machine",
    [{"apt": WOULD_REMOVE}, {"apt": "", "root": False}],
    ids=["in the way of a package", "no right"],
)
def test_mysqld_that_may_not_run_where_mariadb_cannot_come_is_one_sentence_with_advice(
    ubuntu: Ubuntu, tmp_path: Path, machine: dict[str, Any]
) -> None:
    calls = ubuntu(**machine)
    with pytest.raises(SetupError) as error:
        database_server(Folders(tmp_path / "state"), free_port())
    # "Install mariadb-server" would be advice to remove the server that is there.
    sentence = (
        r"\S+/bin/mysqld cannot run from \S+/state/database \(.*Permission denied\)\),"
        r" and MariaDB cannot be installed beside it: set DATABASE_URL to a database of that server,"
        r" or run `docker compose up --build --wait`\."
    )
    assert re.fullmatch(sentence, str(error.value)), error.value
    noted = calls.read_text() if calls.exists() else ""
    assert noted.count("apt-get install") == noted.count("--no-remove")
