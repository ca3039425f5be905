"""`python -m tests.faults.launch SERVICE serve`: the service, which the tests can arm while it runs.

FAULTS_FOLDER is where it looks, at each fault point, for a file `armed` that says `ACTION POINT NTH`. At the
n-th visit to that point from then on it takes the file away and writes `POINT.reached`; then `note` goes on,
`wait` waits until there is a file `POINT.go`, `kill` dies by SIGKILL. FAULTS_BUILD names a module of
tests/faults/broken that breaks the service first.
"""

import importlib
import os
import signal
import sys
import threading
from pathlib import Path

from common import fault_points
from tests.waiting import eventually

_LONGEST_WAIT_SECONDS = 60


class Faults:
    """What happens at which visit to which point, as a folder says."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._visits = 0
        self._lock = threading.Lock()

    def on_reach(self, point: str) -> None:
        """The process is at this point."""
        with self._lock:
            action = self._action_at(point)
        if action == "wait":
            eventually((self._folder / f"{point}.go").exists, within=_LONGEST_WAIT_SECONDS, because=point)
        elif action == "kill":
            os.kill(os.getpid(), signal.SIGKILL)

    def _action_at(self, point: str) -> str:
        armed = self._folder / "armed"
        try:
            action, place, nth = armed.read_text().split()
            self._visits += place == point
            if place != point or self._visits < int(nth):
                return ""
            armed.unlink()
        except FileNotFoundError:  # nothing is armed, or another process was here first
            return ""
        self._visits = 0
        (self._folder / f"{point}.reached").touch()
        return action


def arm(folder: Path, fault: str) -> None:
    """From now on `ACTION POINT NTH` holds, once, for whoever looks into this folder and comes there."""
    for file in folder.iterdir():
        file.unlink()
    draft = folder / "draft"
    draft.write_text(fault)
    draft.rename(folder / "armed")


def main(service: str, *arguments: str) -> int:
    """Run a command of the service; its exit code."""
    if build := os.environ.get("FAULTS_BUILD"):
        importlib.import_module(f"tests.faults.broken.{build}").install()
    if folder := os.environ.get("FAULTS_FOLDER"):
        fault_points.arm(Faults(Path(folder)).on_reach)
    code: int = importlib.import_module(f"{service}.__main__").main(list(arguments))
    return code


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
