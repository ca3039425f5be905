"""What is installed, and how. apt and sudo are scripts of the test that note how they were called."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

import devstack.packages
from devstack.packages import install_missing
from devstack.servers import SetupError

ALL = ("mariadb-server", "rabbitmq-server", "redis-server")
NAMES = " ".join(ALL)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Callable[[], list[str]]]:
    """A machine with these programs only, each a shell script; gives back what reads the calls noted."""
    notes = tmp_path / "notes"

    def make(*, root: bool, **programs: str) -> Callable[[], list[str]]:
        folder = tmp_path / "bin"
        folder.mkdir()
        (folder / "env").symlink_to("/usr/bin/env")
        for name, script in programs.items():
            program = folder / name.replace("_", "-")
            program.write_text(f'#!/bin/sh\necho "{program.name} $*" >>{notes}\n{script}\n')
            program.chmod(0o755)
        monkeypatch.setenv("PATH", str(folder))
        monkeypatch.delenv("DEVSTACK_MYSQLD_ROOT", raising=False)
        monkeypatch.setattr(devstack.packages, "_PATH", str(folder))
        monkeypatch.setattr(os, "geteuid", lambda: 0 if root else 1000)
        return lambda: notes.read_text().splitlines() if notes.exists() else []

    return make


Machine = Callable[..., Callable[[], list[str]]]


@pytest.mark.parametrize(
    "programs",
    [{"apt_get": ""}, {"apt_get": "", "sudo": "exit 1"}, {"sudo": ""}],
    ids=["no sudo", "sudo wants a password", "no apt"],
)
def test_user_who_may_not_install_is_told_the_packages(machine: Machine, programs: dict[str, str]) -> None:
    calls = machine(root=False, **programs)
    sentence = rf"^These packages are missing: {NAMES}\. Install them \(apt-get install {NAMES}\)\.$"
    with pytest.raises(SetupError, match=sentence):
        install_missing(ALL)
    assert not [call for call in calls() if call.startswith("apt-get")]


def test_user_who_may_not_install_and_has_docker_is_told_of_compose(machine: Machine) -> None:
    machine(root=False, docker="", redis_server="", mariadbd="")
    sentence = r"missing: rabbitmq-server\. Install .*, or run `docker compose up --build --wait`\.$"
    with pytest.raises(SetupError, match=sentence):
        install_missing(ALL)


def test_nothing_is_installed_where_everything_is_there(machine: Machine) -> None:
    calls = machine(root=True, apt_get="", mysqld="", rabbitmq_server="", redis_server="")
    assert install_missing(ALL) == []
    assert calls() == []


def test_foreign_root_of_mysql_counts_as_a_database(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    machine(root=False)
    monkeypatch.setenv("DEVSTACK_MYSQLD_ROOT", "/somewhere")
    assert install_missing(("mariadb-server",)) == []


@pytest.mark.parametrize("user", ["root", "sudoer"])
def test_user_who_may_install_gets_what_is_missing_and_only_that(machine: Machine, user: str) -> None:
    sudo = {"sudo": 'shift; [ "$1" = true ] || exec "$@"'} if user == "sudoer" else {}
    calls = machine(root=user == "root", apt_get="", redis_server="", **sudo)
    assert install_missing(ALL) == ["mariadb-server", "rabbitmq-server"]
    [call] = [call for call in calls() if call.startswith("apt-get")]
    assert call == "apt-get install -y -q --no-install-recommends --no-remove mariadb-server rabbitmq-server"


def test_outdated_package_lists_are_brought_up_to_date_once(machine: Machine, tmp_path: Path) -> None:
    fresh = tmp_path / "fresh"
    calls = machine(root=True, apt_get=f'if [ "$1" = update ]; then : >{fresh}; fi; [ -e {fresh} ]')
    assert install_missing(("redis-server",)) == ["redis-server"]
    assert [call.split()[1] for call in calls()] == ["install", "update", "install"]


@pytest.mark.parametrize(
    "complaint",
    [
        "E: Could not get lock /var/cache/apt/archives/lock. It is held by process 7 (apt-get)",
        "E: Unable to acquire the dpkg frontend lock (/var/lib/dpkg/lock-frontend), is …?",
    ],
)
def test_apt_that_another_one_keeps_out_is_asked_again(
    machine: Machine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, complaint: str
) -> None:
    monkeypatch.setattr(devstack.packages, "_PAUSE_SECONDS", 0)
    asked = tmp_path / "asked"
    calls = machine(
        root=True, apt_get=f'[ -e {asked} ] && exit; : >{asked}; echo "{complaint}" >&2; exit 100'
    )
    assert install_missing(("redis-server",)) == ["redis-server"]
    assert [call.split()[1] for call in calls()] == ["install", "install"]


def test_apt_that_is_kept_out_for_minutes_is_one_sentence_with_its_own_last_line(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(devstack.packages, "_PATIENCE_SECONDS", -1)
    machine(root=True, apt_get='echo "E: Could not get lock /var/lib/apt/lists/lock." >&2; exit 100')
    with pytest.raises(SetupError, match=r"failed: E: Could not get lock /var/lib/apt/lists/lock\.$"):
        install_missing(("redis-server",))


def test_of_two_that_begin_at_once_one_installs_and_the_other_waits_for_the_end_of_it(
    machine: Machine, tmp_path: Path
) -> None:
    program = tmp_path / "bin" / "redis-server"
    # As dpkg does it: the program is there before all that it needs is.
    script = f"/bin/ln -s /bin/true {program}; /bin/sleep 0.5; : >{tmp_path}/configured"
    machine(root=True, apt_get=script)

    def ready(_: int) -> list[str]:
        missing = install_missing(("redis-server",))
        assert (tmp_path / "configured").exists()
        return missing

    with ThreadPoolExecutor(2) as pool:
        assert sorted(pool.map(ready, range(2))) == [[], ["redis-server"]]


def test_apt_that_fails_is_one_sentence_with_its_own_last_line(machine: Machine) -> None:
    machine(root=True, apt_get='[ "$1" = update ] || { echo "E: no network" >&2; exit 100; }')
    with pytest.raises(SetupError, match=r"apt-get install .* redis-server` failed: E: no network$"):
        install_missing(("redis-server",))


def test_package_of_the_user_that_would_have_to_go_is_one_sentence_with_a_way_out(machine: Machine) -> None:
    complaint = "E: Packages need to be removed but remove is disabled."
    calls = machine(
        root=True, apt_get=f'case "$*" in *--no-remove*) echo "{complaint}" >&2; exit 100 ;; esac'
    )
    sentence = (
        "^Installing mariadb-server would remove packages of yours: set DATABASE_URL to a server of your own,"
        r" or run `docker compose up --build --wait`\.$"
    )
    with pytest.raises(SetupError, match=sentence):
        install_missing(("mariadb-server",))
    assert not [call for call in calls() if call.startswith("apt-get install") and "--no-remove" not in call]
