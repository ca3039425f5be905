"""`devstack/venv.sh` installs what the file pins; where it cannot, it says why in one true sentence."""

import hashlib
import os
import shutil
import subprocess
import tempfile
import zipfile
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


def put_wheel(index: Path, name: str, version: str, *metadata: str) -> str:
    """A package without a module, of which only the metadata counts. Returns the SHA-256 of its file."""
    folder = f"{name}-{version}.dist-info"
    wheel = index / f"{name}-{version}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as archive:
        lines = ["Metadata-Version: 2.1", f"Name: {name}", f"Version: {version}", *metadata, ""]
        archive.writestr(f"{folder}/METADATA", "\n".join(lines))
        archive.writestr(f"{folder}/WHEEL", "Wheel-Version: 1.0\nRoot-Is-Purelib: true\nTag: py3-none-any\n")
        archive.writestr(f"{folder}/RECORD", "")
    return hashlib.sha256(wheel.read_bytes()).hexdigest()


def test_newer_release_of_a_package_wanted_with_an_extra_changes_nothing(checkout: Path) -> None:
    """The pip of Debian 12 takes that one, sees that nobody pinned it, and installs nothing at all."""
    index = checkout / "index"
    index.mkdir()
    pinned = put_wheel(index, "gauge", "1.0", "Provides-Extra: toml")
    put_wheel(index, "gauge", "2.0", "Provides-Extra: toml")
    wants_it = put_wheel(index, "reader", "1.0", "Requires-Dist: gauge[toml] >=1.0")
    (checkout / "requirements.txt").write_text(
        f"gauge==1.0 --hash=sha256:{pinned}\nreader==1.0 --hash=sha256:{wants_it}\n"
    )
    state = checkout / ".local"
    state.mkdir(mode=0o777)
    state.chmod(0o777)
    done = run(checkout, PIP_NO_INDEX="1", PIP_FIND_LINKS=str(index))
    assert done.returncode == 0, done.stderr
    installed = sorted(
        folder.name for folder in (state / "venv").glob("lib/python*/site-packages/*.dist-info")
    )
    assert {"gauge-1.0.dist-info", "reader-1.0.dist-info"} <= set(installed)
    assert "gauge-2.0.dist-info" not in installed
