import os
import shutil
import subprocess

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


def install_missing(wanted: tuple[str, ...]) -> list[str]:
    """Install through apt what is not there; returns the names. SetupError when this user may not.

    A mysqld counts as a database, and so does DEVSTACK_MYSQLD_ROOT.
    """
    missing = [package for package in wanted if not _present(package)]
    if missing:
        install(missing)
    return missing


def install(packages: list[str]) -> None:
    """Install the packages through apt, in place of none that is there; SetupError when it cannot be done."""
    prefix = _privilege(packages)
    # RUNLEVEL=1 tells Debian's start-up scripts that this is no time to start the services.
    environment = ["env", "DEBIAN_FRONTEND=noninteractive", "RUNLEVEL=1", "LC_ALL=C"]
    options = ["-y", "-q", "--no-install-recommends", "--no-remove"]
    command = [*prefix, *environment, "apt-get", "install", *options, *packages]
    if run(command).returncode == 0:
        return
    _run([*prefix, "apt-get", "update", "-q"])
    done = run(command)
    if done.returncode != 0 and "remove is disabled" in done.stderr:
        variables = " or ".join(_VARIABLES[package] for package in packages)
        raise SetupError(
            f"Installing {' '.join(packages)} would remove packages of yours: set {variables} to a server of"
            " your own, or run `docker compose up --build --wait`."
        )
    _succeeded(command, done)


def _run(command: list[str]) -> None:
    _succeeded(command, run(command))


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
