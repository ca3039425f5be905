import fcntl
import os
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from devstack.programs import complaint, run
from devstack.servers import SetupError

_PATH = os.environ.get("PATH", "") + ":/usr/sbin:/sbin"
_NEEDED = {
    "mariadb-server": ("mariadbd", "mysqld"),
    "rabbitmq-server": ("rabbitmq-server",),
    "redis-server": ("redis-server",),
}
_VARIABLES = {
    "mariadb-server": "DATABASE_URL",
    "rabbitmq-server": "BROKER_URL",
    "redis-server": "CACHE_URL",
}
_PATIENCE_SECONDS = 300
_PAUSE_SECONDS = 1.0


def install_missing(wanted: tuple[str, ...]) -> list[str]:
    """Install through apt what is not there; returns the names. SetupError when this user may not.

    A mysqld counts as a database, and so does DEVSTACK_MYSQLD_ROOT.
    """
    with _one_at_a_time():
        missing = [package for package in wanted if not _present(package)]
        if missing:
            _install(missing)
        return missing


def install(packages: list[str]) -> None:
    """Install the packages through apt, in place of none that is there; SetupError when it cannot be done."""
    with _one_at_a_time():
        _install(packages)


@contextmanager
def _one_at_a_time() -> Iterator[None]:
    """Of this checkout: one that looks while another installs sees programs that are half there."""
    folder = os.open(Path(__file__).parent, os.O_RDONLY)
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
        yield
    finally:
        os.close(folder)


def _install(packages: list[str]) -> None:
    prefix = _privilege(packages)
    # RUNLEVEL=1 tells Debian's start-up scripts that this is no time to start the services.
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "LC_ALL=C"]
    options = ["-y", "-q", "--no-install-recommends", "--no-remove"]
    command = [*prefix, *environment, "apt-get", "install", *options, *packages]
    if _run(command).returncode == 0:
        return
    update = [*prefix, *environment, "apt-get", "update", "-q"]
    _succeeded(update, _run(update))
    done = _run(command)
    if done.returncode != 0 and "remove is disabled" in done.stderr:
        variables = " or ".join(_VARIABLES[package] for package in packages)
        raise SetupError(
            f"Installing {' '.join(packages)} would remove packages of yours: set {variables} to a server of"
            " your own, or run `docker compose up --build --wait`."
        )
    _succeeded(command, done)


def _run(command: list[str]) -> subprocess.CompletedProcess[str]:
    """Run apt once no other one is at work, such as the nightly upgrades, or minutes have passed."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while True:
        done = run(command)
        locked = "Could not get lock" in done.stderr or "frontend lock" in done.stderr
        if done.returncode == 0 or not locked or time.monotonic() > deadline:
            return done
        time.sleep(_PAUSE_SECONDS)


def _succeeded(command: list[str], done: subprocess.CompletedProcess[str]) -> None:
    if done.returncode != 0:
        raise SetupError(f"`{' '.join(command)}` failed: {complaint(done)}")


def _present(package: str) -> bool:
    if package == "mariadb-server" and os.environ.get("DEVSTACK_MYSQLD_ROOT"):
        return True
    return any(shutil.which(program, path=_PATH) for program in _NEEDED[package])


def _privilege(missing: list[str]) -> list[str]:
    """What stands before a command that must run as root."""
    names = " ".join(missing)
    if shutil.which("apt-get"):
        if os.geteuid() == 0:
            return []
        if (
            shutil.which("sudo")
            and subprocess.run(["sudo", "-n", "true"], check=False, capture_output=True).returncode == 0
        ):
            return ["sudo", "-n"]
    docker = ", or run `docker compose up --build --wait`" if shutil.which("docker") else ""
    raise SetupError(f"These packages are missing: {names}. Install them (apt-get install {names}){docker}.")
