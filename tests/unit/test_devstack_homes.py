"""Folders of databases that are served by the mysqld of another root directory."""

import shutil
from pathlib import Path

from devstack.folders import Folders
from devstack.homes import home_of, remove_orphans


def test_home_is_the_servers_own_folder_where_there_is_no_other_root(tmp_path: Path) -> None:
    assert home_of(Folders(tmp_path), "") == tmp_path / "database"
    remove_orphans("")
    assert (tmp_path / "database").is_dir()


def test_home_in_another_root_goes_when_the_servers_folder_has_gone_and_no_other_does(
    tmp_path: Path,
) -> None:
    root = tmp_path / "root"
    (root / "srv" / "devstack-of-somebody").mkdir(parents=True)
    folders = {name: Folders(tmp_path / name) for name in ("kept", "gone")}
    homes = {name: home_of(each, str(root)) for name, each in folders.items()}
    for each in folders.values():
        each.folder()
    for home in homes.values():
        (home / "data").mkdir()
    assert home_of(folders["kept"], str(root)) == homes["kept"] != homes["gone"]

    shutil.rmtree(folders["gone"].root)
    remove_orphans(str(root))
    assert set((root / "srv").iterdir()) == {homes["kept"], root / "srv" / "devstack-of-somebody"}


def test_making_a_home_removes_what_a_killed_run_has_left(tmp_path: Path) -> None:
    root = tmp_path / "root"
    left = home_of(Folders(tmp_path / "killed"), str(root))
    shutil.rmtree(tmp_path / "killed", ignore_errors=True)
    home_of(Folders(tmp_path / "next"), str(root))
    assert not left.exists()
