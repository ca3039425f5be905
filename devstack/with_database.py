import os
import subprocess
import sys
import tempfile
from pathlib import Path

from devstack.database import database_server
from devstack.folders import Folders
from devstack.homes import remove_orphans
from devstack.packages import install_missing
from devstack.servers import free_port
from devstack.stack import ROOT


def with_database(command: list[str]) -> int:
    """Run a command with a migrated throw-away database in DATABASE_URL; its exit code."""
    install_missing(("mariadb-server",))
    try:
        return _with_database(command)
    finally:
        remove_orphans(os.environ.get("DEVSTACK_MYSQLD_ROOT", ""))


def _with_database(command: list[str]) -> int:
    with tempfile.TemporaryDirectory() as folder:
        server = database_server(Folders(Path(folder)), free_port())
        environment = {**os.environ, "DATABASE_URL": server.url}
        try:
            server.start()
            migrate = [sys.executable, "-m", "alembic", "-c", "setup.cfg", "upgrade", "head"]
            subprocess.run(migrate, cwd=ROOT, env=environment, check=True)
            return subprocess.run(command, cwd=ROOT, env=environment, check=False).returncode
        finally:
            server.stop()
