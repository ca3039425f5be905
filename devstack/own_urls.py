import json

from devstack.folders import Folders, write_private


class OwnUrls:
    """The addresses that the servers of this checkout's `make up` have had.

    Its up.env puts them into terminals; found there by the next `make up`, they name no external server.
    """

    def __init__(self, folders: Folders) -> None:
        self._path = folders.folder() / "own_urls.json"

    def external(self, url: str | None) -> str | None:
        """The URL, if it names a server of somebody else."""
        return None if url in self._known() else url or None

    def add(self, *urls: str) -> None:
        """Know these from now on."""
        known = self._known()
        if not known.issuperset(urls):
            write_private(self._path, json.dumps(sorted(known.union(urls)), indent=1))

    def _known(self) -> set[str]:
        return set(json.loads(self._path.read_text())) if self._path.exists() else set()
