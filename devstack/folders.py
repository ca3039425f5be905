import json
import secrets
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Folders:
    """Where one set of servers keeps its state, and its passwords, which are random and made once."""

    root: Path

    def folder(self, *parts: str) -> Path:
        """A folder below the root, made if it is not there."""
        path = self.root.joinpath(*parts)
        path.mkdir(parents=True, exist_ok=True, mode=0o700)
        return path

    def log(self, name: str) -> Path:
        """The log file of a server or service."""
        return self.folder("log") / f"{name}.log"

    def password(self, name: str) -> str:
        """The password called `name`."""
        path = self.folder() / "passwords.json"
        passwords: dict[str, str] = json.loads(path.read_text()) if path.exists() else {}
        if name not in passwords:
            passwords[name] = secrets.token_urlsafe(18)
            write_private(path, json.dumps(passwords, indent=1))
        return passwords[name]


def write_private(path: Path, text: str) -> None:
    """Put the text into a file that only its owner can read, whole or not at all."""
    fresh = path.with_suffix(".new")
    fresh.touch(mode=0o600)
    fresh.write_text(text)
    fresh.replace(path)
