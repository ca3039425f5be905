import hashlib
import shutil
from pathlib import Path
from typing import Any

from kombu import Connection

from devstack.folders import Folders
from devstack.process import Process
from devstack.servers import Server, SetupError, TlsFiles

# Debian's wrapper in /usr/sbin changes to the user rabbitmq, who may not be able to enter our folder.
_SERVER = Path("/usr/lib/rabbitmq/bin/rabbitmq-server")
USER = "bookstore"


def broker_server(
    folders: Folders, port: int, distribution_port: int, epmd_port: int, tls: TlsFiles | None = None
) -> Server:
    """A private RabbitMQ node, with a port mapper (epmd) of its own, which nodes of others never meet."""
    command = str(_SERVER) if _SERVER.exists() else shutil.which("rabbitmq-server")
    epmd = shutil.which("epmd")
    if command is None or epmd is None:
        raise SetupError("rabbitmq-server cannot be run here.")
    password = folders.password("broker")
    home = folders.folder("broker")
    config = home / "rabbitmq.conf"
    config.touch(mode=0o600)
    config.write_text(
        f"{_listening(port, tls)}"
        f"default_user = {USER}\ndefault_pass = {password}\n"
        "loopback_users = none\n"
        "disk_free_limit.absolute = 50MB\n"
    )
    (home / "enabled_plugins").write_text("[].\n")
    tag = hashlib.sha256(str(home).encode()).hexdigest()[:8]
    environment = {
        "HOME": str(folders.folder("broker", "home")),  # its cookie, and none of the user's
        "RABBITMQ_NODENAME": f"bookstore-{tag}@localhost",
        "RABBITMQ_DIST_PORT": str(distribution_port),
        "RABBITMQ_MNESIA_BASE": str(home / "mnesia"),
        "RABBITMQ_LOG_BASE": str(home / "log"),
        "RABBITMQ_LOGS": "-",
        "RABBITMQ_CONFIG_FILE": str(config),
        "RABBITMQ_CONF_ENV_FILE": str(home / "none"),
        "RABBITMQ_ENABLED_PLUGINS_FILE": str(home / "enabled_plugins"),
        "RABBITMQ_PID_FILE": str(home / "pid"),
        # Schedulers that spin while they wait would take a whole core from the services.
        "RABBITMQ_SERVER_ADDITIONAL_ERL_ARGS": "+sbwt none +sbwtdcpu none +sbwtdio none",
        "ERL_EPMD_ADDRESS": "127.0.0.1",
        "ERL_EPMD_PORT": str(epmd_port),
    }
    if tls is None:
        environment |= {"RABBITMQ_NODE_PORT": str(port), "RABBITMQ_NODE_IP_ADDRESS": "127.0.0.1"}
    known: dict[str, Any] | bool = False
    if tls:
        known = {"ca_certs": str(tls.ca), "certfile": str(tls.certificate), "keyfile": str(tls.key)}
        known["server_hostname"] = "127.0.0.1"
    url = f"{'amqps' if tls else 'amqp'}://{USER}:{password}@127.0.0.1:{port}//"

    def probe() -> None:
        with Connection(url, connect_timeout=2, ssl=known) as connection:
            connection.ensure_connection(max_retries=0)

    log = folders.log("broker")
    mapper = Process("epmd", [epmd, "-address", "127.0.0.1", "-port", str(epmd_port)], environment, log)
    node = Process("broker", [command], environment, log, grace_seconds=30)
    return Server("broker", f"RabbitMQ {_version()}", port, url, (mapper, node), probe)


def _listening(port: int, tls: TlsFiles | None) -> str:
    if tls is None:
        return f"listeners.tcp.1 = 127.0.0.1:{port}\n"
    return (
        "listeners.tcp = none\n"
        f"listeners.ssl.1 = 127.0.0.1:{port}\n"
        f"ssl_options.cacertfile = {tls.ca}\n"
        f"ssl_options.certfile = {tls.certificate}\n"
        f"ssl_options.keyfile = {tls.key}\n"
        "ssl_options.verify = verify_peer\n"
        "ssl_options.fail_if_no_peer_cert = true\n"
        "ssl_options.versions.1 = tlsv1.3\n"
        "ssl_options.versions.2 = tlsv1.2\n"
    )


def _version() -> str:
    folders = sorted(Path("/usr/lib/rabbitmq/lib").glob("rabbitmq_server-*"))
    return folders[-1].name.partition("-")[2] if folders else ""
