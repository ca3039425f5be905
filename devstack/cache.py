import shutil
from typing import Any

from redis import Redis

from devstack.folders import Folders
from devstack.process import Process
from devstack.programs import run
from devstack.servers import Server, SetupError, TlsFiles


def cache_server(folders: Folders, port: int, tls: TlsFiles | None = None) -> Server:
    """A private Redis that keeps nothing on disk: a cache that is empty after a restart is a right one."""
    command = shutil.which("redis-server")
    if command is None:
        raise SetupError("redis-server cannot be run here.")
    options = [*_listening(port, tls), "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"]
    options += ["--dir", str(folders.folder("cache")), "--maxmemory", "256mb"]
    options += ["--maxmemory-policy", "allkeys-lru"]
    process = Process("cache", [command, *options], log=folders.log("cache"))
    version = run([command, "--version"]).stdout
    number = version.partition("v=")[2].split()[0]

    def probe() -> None:
        with Redis.from_url(url, socket_timeout=2, **known) as client:
            client.ping()

    url = f"{'rediss' if tls else 'redis'}://127.0.0.1:{port}/0"
    known: dict[str, Any] = {}
    if tls:
        known = {"ssl_ca_certs": tls.ca, "ssl_certfile": tls.certificate, "ssl_keyfile": tls.key}
    return Server("cache", f"Redis {number}", port, url, (process,), probe)


def _listening(port: int, tls: TlsFiles | None) -> list[str]:
    if tls is None:
        return ["--port", str(port)]
    files = ["--tls-ca-cert-file", str(tls.ca), "--tls-cert-file", str(tls.certificate)]
    return ["--port", "0", "--tls-port", str(port), *files, "--tls-key-file", str(tls.key)]
