import shutil

from redis import Redis

from devstack.folders import Folders
from devstack.process import Process
from devstack.programs import run
from devstack.servers import Server, SetupError


def cache_server(folders: Folders, port: int) -> Server:
    """A private Redis that keeps nothing on disk: a cache that is empty after a restart is a right one."""
    command = shutil.which("redis-server")
    if command is None:
        raise SetupError("redis-server cannot be run here.")
    options = ["--port", str(port), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    options += ["--dir", str(folders.folder("cache")), "--maxmemory", "256mb"]
    options += ["--maxmemory-policy", "allkeys-lru"]
    process = Process("cache", [command, *options], log=folders.log("cache"))
    version = run([command, "--version"]).stdout
    number = version.partition("v=")[2].split()[0]

    def probe() -> None:
        with Redis(port=port, socket_timeout=2) as client:
            client.ping()

    return Server("cache", f"Redis {number}", port, f"redis://127.0.0.1:{port}/0", (process,), probe)
