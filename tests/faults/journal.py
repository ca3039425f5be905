"""For the checker of the whole path; what the API alone answers is counted in tests/fixtures/journal.py."""

import json
import threading
from dataclasses import asdict
from pathlib import Path

from tests.faults.evidence import Change, Reading


class Journal:
    """What clients asked and were told, as JSON lines in a file; many threads may write.

    `changes` counts the calls for a change; `server_errors` has the answers that blame the server itself, for
    no fault around it is an excuse for a 500.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self.changes = 0
        self.server_errors: list[str] = []
        path.touch()

    def write(self, entry: Change | Reading) -> None:
        """Add an entry."""
        line = json.dumps({"kind": type(entry).__name__, **asdict(entry)})
        with self._lock, self._path.open("a", encoding="utf-8") as file:
            file.write(line + "\n")
            self.changes += isinstance(entry, Change)

    def read(self) -> tuple[tuple[Change, ...], tuple[Reading, ...]]:
        """All changes and all readings, in the order in which they were written."""
        changes, readings = [], []
        for line in self._path.read_text(encoding="utf-8").splitlines():
            fields = json.loads(line)
            if fields.pop("kind") == "Change":
                changes.append(Change(**fields))
            else:
                readings.append(Reading(**fields))
        return tuple(changes), tuple(readings)
