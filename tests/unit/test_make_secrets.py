"""The passwords of the containers: random, made once, the same on both sides of each connection."""

import re
from pathlib import Path

import pytest
from sqlalchemy import make_url

from containers.make_secrets import make_secrets

FOLDERS = ("broker", "cache", "database", "services")


def volumes(root: Path) -> Path:
    for name in FOLDERS:
        (root / name).mkdir(parents=True)
    return root


def contents(root: Path) -> dict[str, str]:
    return {str(file.relative_to(root)): file.read_text() for file in root.rglob("*") if file.is_file()}


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return volumes(tmp_path / "secrets")


def test_both_sides_of_each_connection_get_the_same_password(root: Path) -> None:
    make_secrets(root)
    made = contents(root)
    database, broker, cache = (
        make_url(made[f"services/{name}_url"]).password for name in ("database", "broker", "cache")
    )
    assert made["database/password"] == database
    assert f"password={database}\n" in made["database/client.cnf"]
    assert f"default_pass = {broker}\n" in made["broker/rabbitmq.conf"]
    assert made["cache/redis.conf"] == f"requirepass {cache}\n"
    assert made["cache/password"] == cache
    assert f"DEMO_PASSWORD={made['services/demo_password']}\n" in made["services/demo.env"]


def test_every_password_is_another_and_no_two_installations_share_one(root: Path, tmp_path: Path) -> None:
    make_secrets(root)
    make_secrets(volumes(tmp_path / "others"))
    everything = [*contents(root).values(), *contents(tmp_path / "others").values()]
    passwords = {word for text in everything for word in re.findall(r"[0-9a-f]{48}", text)}
    assert len(passwords) == 2 * 5


def test_second_run_changes_nothing(root: Path) -> None:
    make_secrets(root)
    first = contents(root)
    make_secrets(root)
    assert contents(root) == first


def test_run_after_an_interrupted_one_keeps_its_passwords_and_writes_what_is_missing(root: Path) -> None:
    make_secrets(root)
    first = contents(root)
    for name in ("services/database_url", "broker/rabbitmq.conf", "database/client.cnf"):
        (root / name).unlink()
    (root / "cache" / ".redis.conf.new").write_text("half a li")
    make_secrets(root)
    assert contents(root) == first


def test_files_can_be_read_by_the_servers_users_and_changed_by_nobody(root: Path) -> None:
    make_secrets(root)
    assert {file.stat().st_mode & 0o777 for file in root.rglob("*") if file.is_file()} == {0o444}
