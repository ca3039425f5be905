"""Where a private database keeps everything: below its servers' folder, or in another root directory."""

import hashlib
import shutil
from contextlib import suppress
from pathlib import Path

from devstack.folders import Folders

_OWNER = "of"


def home_of(folders: Folders, root: str) -> Path:
    """The database's folder; with `root`, in that root directory, whose mysqld sees nothing else."""
    if not root:
        return folders.folder("database")
    remove_orphans(root)
    owner = str(folders.folder().resolve())
    home = Path(root, "srv", "devstack-" + hashlib.sha256(owner.encode()).hexdigest()[:12])
    home.mkdir(parents=True, exist_ok=True)
    (home / _OWNER).write_text(owner)
    return home


def remove_orphans(root: str) -> None:
    """Remove what stands in the root directory for servers whose own folder has gone."""
    for owner in Path(root, "srv").glob(f"devstack-*/{_OWNER}") if root else ():
        with suppress(FileNotFoundError):  # another test worker was here first
            if not Path(owner.read_text()).exists():
                shutil.rmtree(owner.parent, ignore_errors=True)
