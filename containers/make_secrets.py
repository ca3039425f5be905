"""Makes the passwords of one installation, each once, and writes down for every container what it needs.

Each folder is a volume that only its readers mount. They run as different users, so everybody there may read
the files; what keeps others out is that the volume is mounted nowhere else. Standard library only.
"""

import secrets
import sys
from pathlib import Path

_USER = "bookstore"


def make_secrets(root: Path) -> None:
    """Fill the folders `database`, `broker`, `cache` and `services` below `root`.

    A password that is there stays, and what is made from it is written anew: after an interrupted run
    the next one mends all.
    """
    database, broker, cache, services = (root / name for name in ("database", "broker", "cache", "services"))
    _password(database / "root_password")
    password = _password(database / "password")
    client = f"[client]\nprotocol=tcp\nhost=127.0.0.1\nuser={_USER}\npassword={password}\n"
    _write(database / "client.cnf", client)
    _write(services / "database_url", f"mysql://{_USER}:{password}@database:3306/bookstore")
    password = _password(broker / "password")
    _write(broker / "rabbitmq.conf", f"default_user = {_USER}\ndefault_pass = {password}\n")
    _write(services / "broker_url", f"amqp://{_USER}:{password}@broker:5672//")
    password = _password(cache / "password")
    _write(cache / "redis.conf", f"requirepass {password}\n")
    _write(services / "cache_url", f"redis://:{password}@cache:6379/0")
    password = _password(services / "demo_password")
    _write(services / "demo_username", "demo")
    _write(services / "demo.env", f"DEMO_USERNAME=demo\nDEMO_PASSWORD={password}\n")


def _password(path: Path) -> str:
    """The password in that file, made if it is not there.

    It is hexadecimal, which means itself in a URL and in every server's configuration.
    """
    if not path.exists():
        _write(path, secrets.token_hex(24))
    return path.read_text()


def _write(path: Path, text: str) -> None:
    """Put the text into a file that everybody may read and nobody write, whole or not at all."""
    fresh = path.with_name(f".{path.name}.new")
    fresh.unlink(missing_ok=True)
    fresh.write_text(text)
    fresh.chmod(0o444)
    fresh.replace(path)


if __name__ == "__main__":
    make_secrets(Path(sys.argv[1]))
