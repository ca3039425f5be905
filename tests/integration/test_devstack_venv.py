"""`devstack/venv.sh` where it cannot do its work: one sentence, and a true one."""

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.fixtures.schema import ROOT

NOBODY = 65_534


@pytest.fixture
def checkout() -> Iterator[Path]:
    """A copy of what the script needs, which every user may read."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        (folder / "devstack").mkdir()
        shutil.copy(ROOT / "devstack" / "venv.sh", folder / "devstack")
        (folder / "requirements.txt").touch()
        yield folder
        folder.chmod(0o755)


def run(checkout: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    """As a user who is not root, with nobody's rights where we are root."""
    return subprocess.run(
        ["devstack/venv.sh", "requirements.txt"],
        cwd=checkout,
        env={"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/nonexistent", **environment},
        user=NOBODY if os.geteuid() == 0 else None,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("there", ["nothing", "folder", "finished"])
def test_user_who_may_not_write_is_told_so(checkout: Path, there: str) -> None:
    state = checkout / ".local"
    if there != "nothing":
        (state / "venv").mkdir(parents=True)
        if there == "finished":
            (state / "venv" / ".installed-requirements.txt").touch()
        state.chmod(0o555)
    checkout.chmod(0o555)
    done = run(checkout)
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    user = "nobody" if os.geteuid() == 0 else os.environ.get("USER", "")
    assert sentence.startswith(f"{checkout}/.local cannot be written by {user}")
    assert sentence.endswith(".")
    assert "python3-venv" not in sentence


def test_environment_that_cannot_be_made_is_told_with_the_reason_of_python(checkout: Path) -> None:
    state = checkout / ".local"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    (state / "venv").touch()  # a file is in its place
    done = run(checkout)
    assert done.returncode == 1
    [sentence] = done.stderr.splitlines()
    assert sentence.startswith(f"{checkout}/.local/venv cannot be made: Error:")
    assert "python3-venv" not in sentence
