"""`make test` in a folder with next to nothing to test: how it ends, and with which exit code."""

import configparser
import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.fixtures.schema import ROOT

CODE = "def double(number):\n    if number:\n        return 2 * number\n    return 0\n"
HALF = "import api\n\n\ndef test_zero():\n    assert api.double(0) == 0\n"
GREEN = HALF + "\n\ndef test_one():\n    assert api.double(1) == 2\n"
RED = GREEN.replace("== 2", "== 3")
# Everything is covered, half of it by another process.
APART = HALF + (
    "\n\ndef test_apart():\n"
    "    import subprocess, sys\n\n"
    "    subprocess.run([sys.executable, '-c', 'import api; api.double(1)'], check=True)\n"
)

MakeTest = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture
def make_test(tmp_path: Path) -> MakeTest:
    """Run it with this test file; the interpreter and the settings are those of this checkout."""
    settings = configparser.ConfigParser()
    settings.read(ROOT / "setup.cfg")
    for package in settings["coverage:run"]["source"].split():
        folder = tmp_path / package
        folder.mkdir()
        (folder / "__init__.py").write_text(CODE if package == "api" else "")
    for name in ("Makefile", "setup.cfg"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / ".local").mkdir()
    (tmp_path / ".local" / "venv").symlink_to(sys.prefix)
    (tmp_path / "tests").mkdir()
    installer = tmp_path / "devstack" / "venv.sh"
    installer.parent.mkdir(exist_ok=True)
    installer.write_text("#!/bin/sh\n")
    installer.chmod(0o755)
    environment = {
        name: value for name, value in os.environ.items() if not name.startswith(("COV", "MAKE", "PYTEST"))
    }

    def run(tests: str, *words: str) -> subprocess.CompletedProcess[str]:
        (tmp_path / "tests" / "test_double.py").write_text(tests)
        return subprocess.run(
            ["make", "test", *words],
            cwd=tmp_path,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )

    return run


@pytest.mark.parametrize(("tests", "words"), [(GREEN, ()), (APART, ()), (HALF, ("PYTEST=-k zero",))])
def test_green_run_ends_with_the_summary_of_pytest(
    make_test: MakeTest, tests: str, words: tuple[str, ...]
) -> None:
    done = make_test(tests, *words)
    assert done.returncode == 0, done.stdout + done.stderr
    assert re.fullmatch(r"=+ \d passed in [\d.]+s =+", done.stdout.splitlines()[-1]), done.stdout
    assert "TOTAL" in done.stdout


def test_test_that_fails_fails_it(make_test: MakeTest) -> None:
    done = make_test(RED)
    assert done.returncode != 0
    assert re.fullmatch(r"=+ 1 failed, 1 passed in [\d.]+s =+", done.stdout.splitlines()[-1]), done.stdout


def test_line_that_no_test_runs_fails_it_and_is_named(make_test: MakeTest) -> None:
    done = make_test(HALF)
    assert done.returncode != 0
    assert re.search(r"^api/__init__\.py .* 3$", done.stdout, re.MULTILINE), done.stdout
    assert "1 passed" in done.stdout.splitlines()[-1]
